// Scales a photo down before it is sent: a camera's photo has 12 million pixels, a face needs few of them.

#if canImport(ImageIO)
import Foundation
import ImageIO
import UniformTypeIdentifiers

/// Scales a photo down, upright, and drops its metadata (place, time, device).
///
/// - Parameters:
///   - photo: the file, HEIC as phones make it or any other kind they read
///   - longestSide: pixels; a smaller photo keeps its size
/// - Returns: a JPEG file, or nothing when it is not a photo
func scale(photo: Data, longestSide: Int = 1024) -> Data? {
    let options: [CFString: Any] = [
        kCGImageSourceCreateThumbnailFromImageAlways: true,
        kCGImageSourceCreateThumbnailWithTransform: true,
        kCGImageSourceThumbnailMaxPixelSize: longestSide,
    ]
    guard let source = CGImageSourceCreateWithData(photo as CFData, nil),
        let image = CGImageSourceCreateThumbnailAtIndex(source, 0, options as CFDictionary)
    else { return nil }
    let file = NSMutableData()
    let jpeg = UTType.jpeg.identifier as CFString
    guard let destination = CGImageDestinationCreateWithData(file, jpeg, 1, nil) else { return nil }
    CGImageDestinationAddImage(destination, image, [kCGImageDestinationLossyCompressionQuality: 0.9] as CFDictionary)
    return CGImageDestinationFinalize(destination) ? file as Data : nil
}
#endif
