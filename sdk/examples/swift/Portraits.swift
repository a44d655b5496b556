// Portraits over a network that fails: each is made and paid for once, whatever happens to the connection.
// Foundation alone; for iOS 15, macOS 12 and Linux, Swift 6.

import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// A refusal (RFC 9457): decide by `code`, show `detail` and `remedy`.
struct Problem: Error, Decodable {
    let code: String
    let detail: String
    let remedy: String
}

/// What keeps a photo from being a good reference; a `blocking` one would be refused.
struct PhotoProblem: Decodable {
    let code: String
    let message: String
    let blocking: Bool
}

/// One step of the making: `references`, `prompt`, `denoise`, `decode` or `encode`.
struct Progress: Decodable {
    let stage: String
    let step: Int
    let steps: Int
}

/// A finished portrait: where its file is, and the seed that makes it again.
struct Portrait: Decodable {
    let index: Int
    let seed: Int
    let url: String
}

/// What to make, beside the photo; more fields are in the API's documentation.
struct Wishes: Encodable {
    var prompt: String
    var classNoun: String
    var numImages: Int?
    var seed: Int?
}

/// The service at an address. Asks for a token before each request: your backend gives short-lived ones.
struct Portraits: Sendable {
    let address: URL
    let token: @Sendable () async throws -> String

    /// How often a call whose answer got lost is sent again, each time after twice as long.
    private static let attempts = 6
    private static let longestRetryAfter: UInt64 = 300
    private static let firstDelay: UInt64 = 250_000_000

    /// Asks whether a photo will do, in a tenth of a second. No problems: it will.
    func check(photo: Data) async throws -> [PhotoProblem] {
        struct Body: Encodable { let image: String }
        struct Report: Decodable { let problems: [PhotoProblem] }
        let body = try encode(Body(image: photo.base64EncodedString()))
        let report: Report = try await insist("POST", "/v1/faces", body: body)
        return report.problems
    }

    /// Asks for portraits, and does not wait for them. `key` names this wish: a new UUID, kept (on disk) until the portraits
    /// are there. Asking again with it, even after a restart of the app, gives the same generation and costs nothing.
    /// Returns the generation's id.
    func start(photo: Data, wishes: Wishes, key: UUID) async throws -> String {
        struct Body: Encodable {
            let wishes: Wishes
            let photo: String
            enum CodingKeys: String, CodingKey { case referenceImages }
            func encode(to encoder: Encoder) throws {
                try wishes.encode(to: encoder)
                var fields = encoder.container(keyedBy: CodingKeys.self)
                try fields.encode([photo], forKey: .referenceImages)
            }
        }
        struct Generation: Decodable { let id: String }
        let body = try encode(Body(wishes: wishes, photo: photo.base64EncodedString()))
        let headers = ["Idempotency-Key": key.uuidString, "Prefer": "respond-async"]
        let generation: Generation = try await insist("POST", "/v1/generations", body: body, headers: headers)
        return generation.id
    }

    /// Follows a generation to its end; a stream that broke off is taken up again after the last event that came.
    func follow(_ id: String, onProgress: (Progress) -> Void) async throws -> [Portrait] {
        struct State: Decodable {
            let status: String
            let images: [Portrait]?
            let error: Problem?
        }
        var lastEventID: String?
        var lost = 0
        while true {
            var request = try await makeRequest("GET", "/v1/generations/\(id)/events")
            request.setValue("text/event-stream", forHTTPHeaderField: "Accept")
            request.setValue(lastEventID, forHTTPHeaderField: "Last-Event-ID")
            var events = EventReader(lastEventID: lastEventID)
            do {
                for try await bytes in ByteStream.open(request) {
                    for event in events.read(bytes) {
                        lastEventID = event.id
                        lost = 0
                        guard event.name == "progress" else { continue }
                        onProgress(try decode(Progress.self, from: Data(event.data.utf8)))
                    }
                }
            } catch let broken as URLError {
                lost += 1
                if lost == Self.attempts { throw broken }
                try await Task.sleep(nanoseconds: Self.firstDelay << UInt64(lost - 1))
                continue
            }
            // a stream may end early, for instance when the service is replaced: the generation says how it is
            let state: State = try await insist("GET", "/v1/generations/\(id)")
            switch state.status {
            case "succeeded": return state.images ?? []
            case "queued", "running": try await Task.sleep(nanoseconds: Self.firstDelay)
            default: throw state.error ?? Problem(code: state.status, detail: "It ended as \(state.status).", remedy: "")
            }
        }
    }

    /// Gets the file of a portrait.
    func fetch(_ portrait: Portrait) async throws -> Data {
        try await insistOnData("GET", portrait.url)
    }

    private func encode(_ value: some Encodable) throws -> Data {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return try encoder.encode(value)
    }

    private func decode<Value: Decodable>(_ type: Value.Type, from data: Data) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: data)
    }

    private func makeRequest(_ method: String, _ path: String) async throws -> URLRequest {
        // as text: a relative address that begins with `/` would replace the path of the service's own
        var base = address.absoluteString
        if base.hasSuffix("/") { base.removeLast() }
        guard let url = URL(string: base + path) else { throw URLError(.badURL) }
        // a stream that lives sends something every 15 seconds
        var request = URLRequest(url: url, timeoutInterval: 30)
        request.httpMethod = method
        request.setValue("Bearer \(try await token())", forHTTPHeaderField: "Authorization")
        return request
    }

    private func insist<Value: Decodable>(
        _ method: String, _ path: String, body: Data? = nil, headers: [String: String] = [:]
    ) async throws -> Value {
        try decode(Value.self, from: try await insistOnData(method, path, body: body, headers: headers))
    }

    /// Calls until somebody answers; safe for whatever may be sent twice.
    private func insistOnData(
        _ method: String, _ path: String, body: Data? = nil, headers: [String: String] = [:]
    ) async throws -> Data {
        var delay = Self.firstDelay
        for attempt in 1...Self.attempts {
            var request = try await makeRequest(method, path)
            for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
            if let body {
                request.httpBody = body
                request.setValue("application/json", forHTTPHeaderField: "Content-Type")
            }
            do {
                let (data, response) = try await URLSession.shared.data(for: request)
                let answer = response as? HTTPURLResponse
                let status = answer?.statusCode ?? 0
                if (200..<300).contains(status) { return data }
                let problem = try? decode(Problem.self, from: data)
                // what passes by itself; and a proxy's 502 or 504, for the service may have taken the request on
                let passes = status == 429 || status == 503 || (status >= 500 && problem == nil)
                guard passes, attempt < Self.attempts else {
                    let detail = "Not the service answered, but what stands in front of it: \(status)."
                    throw problem ?? Problem(code: "unexpected_answer", detail: detail, remedy: "")
                }
                // a proxy may say a day
                let asked = UInt64(answer?.value(forHTTPHeaderField: "Retry-After") ?? "") ?? 0
                let seconds = min(asked, Self.longestRetryAfter)
                try await Task.sleep(nanoseconds: max(delay, seconds * 1_000_000_000))
            } catch let lost as URLError where lost.code != .cancelled && attempt < Self.attempts {
                try await Task.sleep(nanoseconds: delay)
            }
            delay *= 2
        }
        fatalError("the last attempt returns or throws")
    }
}
