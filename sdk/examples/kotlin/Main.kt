/** PHOTO PROMPT CLASS_NOUN FOLDER, with the service's address in IDADAPTER_URL and a token in IDADAPTER_TOKEN. */
package idadapter.example

import java.io.File
import java.util.UUID
import kotlin.system.exitProcess

fun main(args: Array<String>) {
    val address = System.getenv("IDADAPTER_URL")
    val token = System.getenv("IDADAPTER_TOKEN")
    if (args.size != 4 || address == null || token == null) {
        System.err.println("PHOTO PROMPT CLASS_NOUN FOLDER, with IDADAPTER_URL and IDADAPTER_TOKEN")
        exitProcess(2)
    }
    val (path, prompt, classNoun, folder) = args
    File(folder).mkdirs()
    // on a phone: scalePhoto of ScalePhoto.kt
    val photo = File(path).readBytes()

    val portraits = Portraits(address) { token }
    val problems = portraits.checkPhoto(photo)
    problems.forEach { println(it.message) }
    if (problems.any { it.blocking }) exitProcess(1)

    // an app keeps the key until it has the portraits
    val key = UUID.randomUUID().toString()
    val id = portraits.start(photo, mapOf("prompt" to prompt, "class_noun" to classNoun), key)
    System.err.println(id)
    for (portrait in portraits.follow(id) { println("${it.stage} ${it.step} ${it.steps}") }) {
        val file = File(folder, "portrait_${portrait.seed}.png")
        file.writeBytes(portraits.fetch(portrait))
        println(file)
    }
}
