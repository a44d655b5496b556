// Server-sent events (WHATWG HTML, 9.2) of a request that needs headers.

import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// One event.
struct ServerSentEvent {
    let name: String
    let data: String
    /// What to send as `Last-Event-ID` to get the events after this one.
    let id: String?
}

/// Finds events in bytes that come in pieces. (`URLSession.AsyncBytes.lines` will not do: it leaves out the empty lines that
/// end an event.)
struct EventReader {
    private var lastEventID: String?
    private var line: [UInt8] = []
    private var name = "message"
    private var data: [String] = []

    init(lastEventID: String?) {
        self.lastEventID = lastEventID
    }

    /// The events that end in these bytes; one that the stream's end cuts off never came.
    mutating func read(_ bytes: Data) -> [ServerSentEvent] {
        var events: [ServerSentEvent] = []
        for byte in bytes {
            guard byte == UInt8(ascii: "\n") else {
                line.append(byte)
                continue
            }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if let event = end(String(decoding: line, as: UTF8.self)) { events.append(event) }
            line.removeAll(keepingCapacity: true)
        }
        return events
    }

    private mutating func end(_ line: String) -> ServerSentEvent? {
        guard !line.isEmpty else {
            defer { (name, data) = ("message", []) }
            return data.isEmpty ? nil : ServerSentEvent(name: name, data: data.joined(separator: "\n"), id: lastEventID)
        }
        let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var value = parts.count > 1 ? parts[1] : ""
        if value.first == " " { value.removeFirst() }
        switch parts[0] {
        case "event": name = String(value)
        case "data": data.append(String(value))
        case "id": lastEventID = String(value)
        default: break
        }
        return nil
    }
}

/// The bytes of an answer as they come.
enum ByteStream {
    /// Sends a request. Anything but a 200 has no bytes: ask the generation itself how it is.
    static func open(_ request: URLRequest) -> AsyncThrowingStream<Data, Error> {
        AsyncThrowingStream { continuation in
            let receiver = Receiver(continuation)
            let session = URLSession(configuration: .ephemeral, delegate: receiver, delegateQueue: nil)
            let task = session.dataTask(with: request)
            continuation.onTermination = { _ in session.invalidateAndCancel() }
            task.resume()
        }
    }

    private final class Receiver: NSObject, URLSessionDataDelegate {
        private let continuation: AsyncThrowingStream<Data, Error>.Continuation

        init(_ continuation: AsyncThrowingStream<Data, Error>.Continuation) {
            self.continuation = continuation
        }

        func urlSession(
            _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
            completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
        ) {
            completionHandler((response as? HTTPURLResponse)?.statusCode == 200 ? .allow : .cancel)
        }

        func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
            continuation.yield(data)
        }

        func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: Error?) {
            // canceled: by whoever reads, or above, since the answer is no stream
            let canceled = (error as? URLError)?.code == .cancelled
            continuation.finish(throwing: canceled ? nil : error)
        }
    }
}
