// A first client: log in, pay, and chat over a socket that reconnects and resumes.
//
// It needs Java 17 and the library org.jetbrains.kotlinx:kotlinx-serialization-json (LIBRARY is its path):
//
//     kotlinc Quickstart.kt -cp LIBRARY -d quickstart
//     kotlin -cp quickstart:LIBRARY QuickstartKt http://127.0.0.1:8000/drfchelseru 09120000001
//
// {base}/docs/ lists every request, frame and error code; core/gateway/CHAT.md explains order and resume.

import java.io.IOException
import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.net.http.WebSocket
import java.time.Duration
import java.util.UUID
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CompletionException
import java.util.concurrent.CompletionStage
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread
import kotlin.random.Random
import kotlin.system.exitProcess
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.contentOrNull
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.longOrNull
import kotlinx.serialization.json.put

/** Close codes after which reconnecting is of no use: no valid session. */
val ENDED = setOf(4401, 4411)

/** An error of the API, by its stable code. */
class ApiError(val status: Int, val code: String?, body: String) : Exception("$status $code: $body")

class Tokens(val access: String, val refresh: String)

fun JsonObject.text(name: String): String? = (get(name) ?: JsonNull).jsonPrimitive.contentOrNull

fun JsonObject.number(name: String): Long? = get(name)?.jsonPrimitive?.longOrNull

/** Requests with tokens that renew themselves. */
class Client(val base: String) {
    val http: HttpClient = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build()

    /** Keep them where they survive a restart. */
    @Volatile
    var tokens: Tokens? = null

    fun request(method: String, path: String, body: JsonObject? = null): JsonElement {
        val used = tokens
        try {
            return send(method, path, body, used)
        } catch (error: ApiError) {
            if (error.code != "token_not_valid" || used == null) throw error
        }
        refresh(used)
        return send(method, path, body, tokens)
    }

    private fun send(method: String, path: String, body: JsonObject?, tokens: Tokens?): JsonElement {
        val request = HttpRequest.newBuilder(URI(base + path)).timeout(Duration.ofSeconds(30))
        tokens?.let { request.header("Authorization", "Bearer ${it.access}") }
        if (body == null) {
            request.method(method, HttpRequest.BodyPublishers.noBody())
        } else {
            request.header("Content-Type", "application/json")
            request.method(method, HttpRequest.BodyPublishers.ofString(body.toString()))
        }
        val answer = http.send(request.build(), HttpResponse.BodyHandlers.ofString())
        if (answer.statusCode() >= 400) {
            throw ApiError(answer.statusCode(), answer.headers().firstValue("X-Error-Code").orElse(null), answer.body())
        }
        return if (answer.body().isEmpty()) JsonNull else Json.parseToJsonElement(answer.body())
    }

    /** Requests a code, asks the user for it, and logs in. */
    fun login(number: String, askCode: (String) -> String) {
        tokens = null
        try {
            request("POST", "/otp/send/", buildJsonObject { put("mobile_number", number) })
        } catch (error: ApiError) {
            // A code that was sent before is still good.
            if (error.code != "otp_pending") throw error
        }
        val body = buildJsonObject {
            put("mobile_number", number)
            put("code", askCode(number))
        }
        tokens = tokensOf(request("POST", "/authenticate/", body))
    }

    /** Replaces the tokens, once for all requests that wait. After a lost answer the same token may be sent again. */
    @Synchronized
    fun refresh(used: Tokens) {
        if (tokens === used) {
            tokens = tokensOf(send("POST", "/token/refresh/", buildJsonObject { put("refresh", used.refresh) }, null))
        }
    }

    private fun tokensOf(answer: JsonElement): Tokens {
        val tokens = answer.jsonObject
        return Tokens(tokens.text("access")!!, tokens.text("refresh")!!)
    }
}

/**
 * All rooms over one socket. A lost connection is resumed: no message is missed, and none is shown twice.
 *
 * [run] holds the only thread that touches the state; others hand it their frames.
 */
class Chat(private val client: Client, private val onMessage: (JsonObject) -> Unit) {
    private class Place(var seq: Long?, var revision: Long?)

    private val events = LinkedBlockingQueue<() -> Unit>()
    private val rooms = LinkedHashMap<Long, Place>()
    /** Unacknowledged messages, by their client id. */
    private val outbox = LinkedHashMap<String, JsonObject>()
    /** The connection whose frames count. */
    private var current: Listener? = null
    /** Open, and past `hello`. */
    private var socket: WebSocket? = null
    private var attempts = 0
    private var closed: Int? = null

    /** Watches a room from a position on; without one, from now. */
    fun watch(room: Long, seq: Long? = null, revision: Long? = null) = events.put {
        rooms[room] = Place(seq, revision)
        send(subscription(listOf(room)))
    }

    /** Sends a message. It is sent again after a lost connection, and stored once. */
    fun publish(room: Long, message: String) = events.put {
        val id = UUID.randomUUID().toString()
        val frame = buildJsonObject {
            put("type", "publish")
            put("room", room)
            put("message", message)
            put("client_id", id)
        }
        outbox[id] = frame
        send(frame)
    }

    /** Connects, and again whenever the connection is lost. Returns the close code when the session has ended. */
    fun run(): Int? {
        while (true) {
            closed = null
            try {
                if (attempts > 0) {
                    val longest = minOf(30_000L, 500L shl minOf(attempts, 6))
                    Thread.sleep(Random.nextLong(longest / 2, longest))
                    client.refresh(client.tokens!!)
                }
                val opened = connect()
                while (closed == null) {
                    // The gateway pings every heartbeat; a minute without anything is a dead connection.
                    val event = events.poll(60, TimeUnit.SECONDS)
                    if (event == null) closed = 1006 else event()
                }
                opened.abort()
            } catch (error: ApiError) {
                if (error.status == 401) return closed
            } catch (error: IOException) {
                closed = 1006
            } catch (error: CompletionException) {
                closed = 1006
            }
            socket = null
            if (closed in ENDED && attempts > 1) return closed
            attempts++
        }
    }

    private fun connect(): WebSocket {
        val address = URI(client.base.replaceFirst("http", "ws") + "/ws/")
        val builder = client.http.newWebSocketBuilder().subprotocols("chelseru").connectTimeout(Duration.ofSeconds(10))
        val listener = Listener()
        current = listener
        val opened = builder.buildAsync(address, listener).join()
        // The token goes into the first frame: addresses end up in logs.
        val auth = buildJsonObject {
            put("type", "auth")
            put("token", client.tokens!!.access)
        }
        opened.sendText(auth.toString(), true).join()
        return opened
    }

    /** Hands the frames of one connection to the thread of [run]. */
    private inner class Listener : WebSocket.Listener {
        private val text = StringBuilder()

        override fun onText(from: WebSocket, data: CharSequence, last: Boolean): CompletionStage<*>? {
            text.append(data)
            if (last) {
                val frame = Json.parseToJsonElement(text.toString()).jsonObject
                text.clear()
                hand { receive(from, frame) }
            }
            from.request(1)
            return null
        }

        override fun onPing(from: WebSocket, message: java.nio.ByteBuffer): CompletionStage<*>? {
            // Java answers by itself; this only shows that the connection lives.
            hand { }
            from.request(1)
            return null
        }

        override fun onClose(from: WebSocket, code: Int, reason: String): CompletionStage<*>? {
            hand { closed = code }
            return null
        }

        override fun onError(from: WebSocket, error: Throwable) = hand { closed = 1006 }

        private fun hand(event: () -> Unit) = events.put {
            if (current === this && closed == null) event()
        }
    }

    private fun send(frame: JsonObject) {
        // Before `hello` nothing but the token may be sent; `hello` sends what waits.
        socket?.sendText(frame.toString(), true)?.join()
    }

    private fun subscription(wanted: Collection<Long>) = buildJsonObject {
        put("type", "subscribe")
        put("rooms", JsonArray(wanted.map { room ->
            buildJsonObject {
                put("room", room)
                rooms[room]?.seq?.let { put("since", it) }
                rooms[room]?.revision?.let { put("revision", it) }
            }
        }))
    }

    private fun receive(from: WebSocket, frame: JsonObject) {
        val seen = frame.number("room")?.let { rooms[it] }
        when (val kind = frame.text("type")) {
            "hello" -> {
                socket = from
                attempts = 0
                if (rooms.isNotEmpty()) send(subscription(rooms.keys))
                outbox.values.toList().forEach(::send)
            }
            "subscribed", "reset" -> if (seen != null) {
                // After a reset, load the room by request; what follows `seq` still comes here.
                if (seen.seq == null || kind == "reset") seen.seq = frame.number("seq")
                if (seen.revision == null || kind == "reset") seen.revision = frame.number("revision")
            }
            "chat_message" -> if (seen != null && frame.number("seq")!! > (seen.seq ?: 0)) {
                seen.seq = frame.number("seq")
                onMessage(frame)
            }
            "message_edited", "message_deleted" -> frame.number("revision")?.let { seen?.revision = it }
            "ack" -> outbox.remove(frame.text("client_id"))
            "error" -> {
                if (frame.text("code") !in setOf("busy", "rate_limited")) outbox.remove(frame.text("client_id"))
                System.err.println("refused: $frame")
            }
        }
    }
}

/** The demonstration: log in, begin a payment, chat with account `peer` until somebody says "bye". */
fun main(arguments: Array<String>) {
    val (base, number) = arguments
    val client = Client(base)
    client.login(number) { arguments.getOrNull(2) ?: print("The code sent to $it: ").let { readln().trim() } }
    val me = client.request("GET", "/me/").jsonObject
    println("logged in as ${me.number("id")}")

    val payment = client.request("POST", "/payment/create/", buildJsonObject { put("amount", 1000) }).jsonObject
    println("pay at ${payment["details"]!!.jsonObject.text("gateway_url")}")

    val peer = arguments.getOrNull(3)?.toLong() ?: return
    val room = client.request("POST", "/chat/chatrooms/", buildJsonObject { put("user_id", peer) }).jsonObject
    val done = CompletableFuture<Unit>()
    val chat = Chat(client) { frame ->
        val sender = frame["sender"]!!.jsonObject.number("id")
        println("${frame.number("seq")} $sender: ${frame.text("message")}")
        if (frame.text("message") == "bye") done.complete(Unit)
    }
    thread(isDaemon = true) {
        println("logged out (${chat.run()})")
        done.complete(Unit)
    }
    chat.watch(room.number("id")!!, room.number("last_seq"))
    chat.publish(room.number("id")!!, "hello")
    done.join()
    exitProcess(0)
}
