/** Scales a photo down before it is sent, on Android: a camera's photo has 12 million pixels, a face needs few of them. */
package idadapter.example

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.net.Uri
import java.io.ByteArrayOutputStream
import kotlin.math.max
import kotlin.math.roundToInt

/**
 * Scales a photo down, upright, and drops its metadata (place, time, device). Returns a JPEG file whose longer side has at
 * most [longestSide] pixels. Needs API level 28; ImageDecoder honours the EXIF orientation.
 */
fun scalePhoto(resolver: ContentResolver, photo: Uri, longestSide: Int = 1024): ByteArray {
    val source = ImageDecoder.createSource(resolver, photo)
    val bitmap = ImageDecoder.decodeBitmap(source) { decoder, info, _ ->
        val scale = longestSide.toFloat() / max(info.size.width, info.size.height)
        if (scale < 1) {
            decoder.setTargetSize((info.size.width * scale).roundToInt(), (info.size.height * scale).roundToInt())
        }
        decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
    }
    return ByteArrayOutputStream().use { file ->
        bitmap.compress(Bitmap.CompressFormat.JPEG, 90, file)
        file.toByteArray()
    }
}
