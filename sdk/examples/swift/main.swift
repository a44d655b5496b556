// PHOTO PROMPT CLASS_NOUN FOLDER, with the service's address in IDADAPTER_URL and a token in IDADAPTER_TOKEN.

import Foundation

let arguments = CommandLine.arguments.dropFirst()
let environment = ProcessInfo.processInfo.environment
guard arguments.count == 4, let address = URL(string: environment["IDADAPTER_URL"] ?? ""),
    let token = environment["IDADAPTER_TOKEN"]
else {
    FileHandle.standardError.write(Data("PHOTO PROMPT CLASS_NOUN FOLDER, with IDADAPTER_URL and IDADAPTER_TOKEN\n".utf8))
    exit(2)
}
let (path, prompt, classNoun, folder) = (arguments[1], arguments[2], arguments[3], arguments[4])

try FileManager.default.createDirectory(at: URL(fileURLWithPath: folder), withIntermediateDirectories: true)

var photo = try Data(contentsOf: URL(fileURLWithPath: path))
#if canImport(ImageIO)
photo = scale(photo: photo) ?? photo
#endif

let portraits = Portraits(address: address) { token }
let problems = try await portraits.check(photo: photo)
for problem in problems { print(problem.message) }
if problems.contains(where: \.blocking) { exit(1) }

// an app keeps the key until it has the portraits
let key = UUID()
let id = try await portraits.start(photo: photo, wishes: Wishes(prompt: prompt, classNoun: classNoun), key: key)
FileHandle.standardError.write(Data("\(id)\n".utf8))
let made = try await portraits.follow(id) { print($0.stage, $0.step, $0.steps) }
for portrait in made {
    let file = URL(fileURLWithPath: folder).appendingPathComponent("portrait_\(portrait.seed).png")
    try await portraits.fetch(portrait).write(to: file)
    print(file.path)
}
