/**
 * Portraits over a network that fails: each is made and paid for once, whatever happens to the connection. Uses only what
 * Android has (HttpURLConnection, org.json), from API level 26 on; call it off the main thread, for instance in
 * `withContext(Dispatchers.IO)`.
 */
package idadapter.example

import java.io.BufferedReader
import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import java.util.Base64
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** The service refused. [code] is for programs, the message for people. */
class Refused(val code: String, message: String) : Exception(message)

/** One step of the making. [stage] is `references`, `prompt`, `denoise`, `decode` or `encode`. */
data class Progress(val stage: String, val step: Int, val steps: Int)

/** A finished portrait: where its file is, and the seed that makes it again. */
data class Portrait(val path: String, val seed: Long)

/** What keeps a photo from being a good reference; a [blocking] one would be refused. */
data class PhotoProblem(val code: String, val message: String, val blocking: Boolean)

/**
 * Calls the service at [address], `https://portraits.example.com`. Asks [token] before each request: your backend gives
 * short-lived ones.
 */
class Portraits(private val address: String, private val token: () -> String) {
    /** Asks whether a photo will do, in a tenth of a second. No problems: it will. */
    fun checkPhoto(photo: ByteArray): List<PhotoProblem> {
        val body = JSONObject().put("image", toBase64(photo))
        val problems = insist { json("POST", "/v1/faces", body) }.getJSONArray("problems")
        return List(problems.length()) { index ->
            val problem = problems.getJSONObject(index)
            PhotoProblem(problem.getString("code"), problem.getString("message"), problem.getBoolean("blocking"))
        }
    }

    /**
     * Asks for portraits, and does not wait for them. [wishes] are the fields of `POST /v1/generations` but the photo.
     * [key] names this wish: a new UUID, kept (on disk) until the portraits are there. Asking again with it, even after a
     * restart of the app, gives the same generation and costs nothing. Returns the generation's id.
     */
    fun start(photo: ByteArray, wishes: Map<String, Any>, key: String): String {
        val body = JSONObject(wishes).put("reference_images", JSONArray().put(toBase64(photo)))
        val headers = mapOf("Idempotency-Key" to key, "Prefer" to "respond-async")
        return insist { json("POST", "/v1/generations", body, headers) }.getString("id")
    }

    /** Follows a generation to its end; a stream that broke off is taken up again after the last event that came. */
    fun follow(id: String, onProgress: (Progress) -> Unit): List<Portrait> {
        var lastEventId: String? = null
        var lost = 0
        while (true) {
            try {
                watch(id, lastEventId) { event, data, eventId ->
                    lastEventId = eventId
                    lost = 0
                    if (event == "progress") {
                        val progress = JSONObject(data)
                        onProgress(
                            Progress(progress.getString("stage"), progress.getInt("step"), progress.getInt("steps")),
                        )
                    }
                }
            } catch (broken: IOException) {
                if (++lost == ATTEMPTS) throw broken
                Thread.sleep(FIRST_DELAY shl lost - 1)
                continue
            } catch (busy: Busy) {
                if (++lost == ATTEMPTS) throw busy.failure
                Thread.sleep(maxOf(FIRST_DELAY shl lost - 1, busy.milliseconds))
                continue
            }
            // a stream may end early, for instance when the service is replaced: the generation says how it is
            val state = insist { json("GET", "/v1/generations/$id") }
            when (state.getString("status")) {
                "succeeded" -> return portraitsOf(state)
                "queued", "running" -> Thread.sleep(FIRST_DELAY)
                else -> throw refusal(state.getJSONObject("error"))
            }
        }
    }

    /** Gets the file of a portrait. */
    fun fetch(portrait: Portrait): ByteArray = insist {
        // Java names formats of its own where nobody does; this takes the portrait as it was made.
        request("GET", portrait.path, headers = mapOf("Accept" to "*/*")) { connection ->
            connection.inputStream.use { it.readBytes() }
        }
    }

    private fun portraitsOf(generation: JSONObject): List<Portrait> {
        val images = generation.getJSONArray("images")
        return List(images.length()) { index ->
            val image = images.getJSONObject(index)
            Portrait(image.getString("url"), image.getLong("seed"))
        }
    }

    /** Reads server-sent events until the stream ends. */
    private fun watch(id: String, lastEventId: String?, onEvent: (String, String, String?) -> Unit) {
        val headers = mapOf("Accept" to "text/event-stream") +
            (lastEventId?.let { mapOf("Last-Event-ID" to it) } ?: emptyMap())
        request("GET", "/v1/generations/$id/events", headers = headers) { connection ->
            // 204: there is nothing after that event
            if (connection.responseCode == HttpURLConnection.HTTP_OK) {
                connection.inputStream.bufferedReader().use { readEvents(it, lastEventId, onEvent) }
            }
        }
    }

    /** WHATWG HTML, 9.2.6: an empty line ends an event, what has no empty line after it never came. */
    private fun readEvents(lines: BufferedReader, lastEventId: String?, onEvent: (String, String, String?) -> Unit) {
        var id = lastEventId
        var event = "message"
        val data = mutableListOf<String>()
        while (true) {
            val line = lines.readLine() ?: return
            val value = line.substringAfter(':', "").removePrefix(" ")
            when (line.substringBefore(':')) {
                "event" -> event = value
                "data" -> data += value
                "id" -> id = value
                "" -> if (line.isEmpty()) {
                    if (data.isNotEmpty()) onEvent(event, data.joinToString("\n"), id)
                    event = "message"
                    data.clear()
                }
            }
        }
    }

    private fun json(
        method: String,
        path: String,
        body: JSONObject? = null,
        headers: Map<String, String> = emptyMap(),
    ): JSONObject = request(method, path, body, headers) { connection ->
        val text = connection.inputStream.bufferedReader().use { it.readText() }
        try {
            JSONObject(text)
        } catch (cut: JSONException) {
            throw IOException("the answer broke off", cut)
        }
    }

    private fun <T> request(
        method: String,
        path: String,
        body: JSONObject? = null,
        headers: Map<String, String> = emptyMap(),
        read: (HttpURLConnection) -> T,
    ): T {
        val connection = URL(address + path).openConnection() as HttpURLConnection
        connection.requestMethod = method
        connection.connectTimeout = 10_000
        // a stream that lives sends something every 15 seconds
        connection.readTimeout = 30_000
        connection.setRequestProperty("Authorization", "Bearer ${token()}")
        headers.forEach(connection::setRequestProperty)
        try {
            if (body != null) {
                connection.doOutput = true
                connection.setRequestProperty("Content-Type", "application/json")
                connection.outputStream.use { it.write(body.toString().toByteArray()) }
            }
            val status = connection.responseCode
            if (status == 429 || status == 503) throw Busy(connection.getHeaderField("Retry-After"), failureOf(connection))
            if (status >= 400) throw failureOf(connection)
            return read(connection)
        } finally {
            connection.disconnect()
        }
    }

    private fun failureOf(connection: HttpURLConnection): Exception {
        val text = connection.errorStream?.bufferedReader()?.use { it.readText() } ?: ""
        return try {
            refusal(JSONObject(text))
        } catch (foreign: JSONException) {
            val message = "Not the service answered, but what stands in front of it: ${connection.responseCode}."
            // a proxy's 502 or 504 is a lost connection: the service may have taken the request on
            if (connection.responseCode >= 500) IOException(message) else Refused("unexpected_answer", message)
        }
    }

    private fun refusal(problem: JSONObject) =
        Refused(problem.getString("code"), "${problem.getString("detail")} ${problem.getString("remedy")}")

    /** A refusal that passes by itself. */
    private class Busy(retryAfter: String?, val failure: Exception) : Exception(failure.message) {
        // a proxy may say a day
        val milliseconds = (retryAfter?.toLongOrNull() ?: 0).coerceIn(0, LONGEST_RETRY_AFTER_SECONDS) * 1000
    }

    /** Calls until somebody answers, each time after twice as long; safe for whatever may be sent twice. */
    private fun <T> insist(call: () -> T): T {
        var delay = FIRST_DELAY
        repeat(ATTEMPTS - 1) {
            try {
                return call()
            } catch (lost: IOException) {
                Thread.sleep(delay)
            } catch (busy: Busy) {
                Thread.sleep(maxOf(delay, busy.milliseconds))
            }
            delay *= 2
        }
        return try {
            call()
        } catch (busy: Busy) {
            throw busy.failure
        }
    }

    private companion object {
        const val ATTEMPTS = 6
        const val FIRST_DELAY = 250L
        const val LONGEST_RETRY_AFTER_SECONDS = 300L

        fun toBase64(bytes: ByteArray): String = Base64.getEncoder().encodeToString(bytes)
    }
}
