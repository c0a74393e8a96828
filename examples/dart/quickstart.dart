// A first client: log in, pay, and chat over a socket that reconnects and resumes.
//
// It needs Dart 3 and no package:
//
//     dart run quickstart.dart http://127.0.0.1:8000/drfchelseru 09120000001
//
// {base}/docs/ lists every request, frame and error code; core/gateway/CHAT.md explains order and resume.

import 'dart:async';
import 'dart:convert';
import 'dart:io';
import 'dart:math';

typedef Json = Map<String, dynamic>;

/// Close codes after which reconnecting is of no use: no valid session.
const ended = {4401, 4411};

/// An error of the API, by its stable code.
class ApiError implements Exception {
  ApiError(this.status, this.code, this.body);

  final int status;
  final String? code;
  final String body;

  @override
  String toString() => '$status $code: $body';
}

/// Requests with tokens that renew themselves.
class Client {
  Client(this.base);

  final String base;
  final HttpClient _http = HttpClient()..connectionTimeout = const Duration(seconds: 10);

  /// Keep them where they survive a restart.
  Json? tokens;
  Future<void>? _refreshing;

  Future<dynamic> request(String method, String path, [Json? body]) async {
    final used = tokens;
    try {
      return await _send(method, path, body, used);
    } on ApiError catch (error) {
      if (error.code != 'token_not_valid' || used == null) rethrow;
      await refresh(used);
    }
    return _send(method, path, body, tokens);
  }

  Future<dynamic> _send(String method, String path, Json? body, Json? tokens) async {
    final request = await _http.openUrl(method, Uri.parse('$base$path'));
    if (tokens != null) request.headers.set('authorization', 'Bearer ${tokens['access']}');
    if (body != null) {
      request.headers.contentType = ContentType.json;
      request.add(utf8.encode(jsonEncode(body)));
    }
    final answer = await request.close().timeout(const Duration(seconds: 30));
    final text = await answer.transform(utf8.decoder).join();
    if (answer.statusCode >= 400) {
      throw ApiError(answer.statusCode, answer.headers.value('x-error-code'), text);
    }
    return text.isEmpty ? null : jsonDecode(text);
  }

  /// Requests a code, asks the user for it, and logs in.
  Future<void> login(String number, Future<String> Function(String number) askCode) async {
    tokens = null;
    try {
      await request('POST', '/otp/send/', {'mobile_number': number});
    } on ApiError catch (error) {
      // A code that was sent before is still good.
      if (error.code != 'otp_pending') rethrow;
    }
    final body = {'mobile_number': number, 'code': await askCode(number)};
    tokens = await request('POST', '/authenticate/', body) as Json;
  }

  /// Replaces the tokens, once for all requests that wait. After a lost answer the same token may be sent again.
  Future<void> refresh(Json used) async {
    if (!identical(tokens, used)) return;
    await (_refreshing ??= _replace(used).whenComplete(() => _refreshing = null));
  }

  Future<void> _replace(Json used) async {
    tokens = await _send('POST', '/token/refresh/', {'refresh': used['refresh']}, null) as Json;
  }
}

/// The last seq and revision that were seen of a room.
class _Place {
  _Place(this.seq, this.revision);

  int? seq;
  int? revision;
}

/// All rooms over one socket. A lost connection is resumed: no message is missed, and none is shown twice.
class Chat {
  Chat(this.client, this.onMessage);

  final Client client;
  final void Function(Json frame) onMessage;

  /// Open, and past `hello`.
  WebSocket? _socket;
  final Map<int, _Place> _rooms = {};

  /// Unacknowledged messages, by their client id.
  final Map<String, Json> _outbox = {};
  int _attempts = 0;

  /// Watches a room from a position on; without one, from now.
  void watch(int room, {int? seq, int? revision}) {
    _rooms[room] = _Place(seq, revision);
    _send({'type': 'subscribe', ..._place(room)});
  }

  /// Sends a message. It is sent again after a lost connection, and stored once.
  void publish(int room, String message) {
    final random = Random.secure();
    final id = [for (var at = 0; at < 16; at++) random.nextInt(256).toRadixString(16).padLeft(2, '0')].join();
    final Json frame = {'type': 'publish', 'room': room, 'message': message, 'client_id': id};
    _outbox[id] = frame;
    _send(frame);
  }

  /// Connects, and again whenever the connection is lost. Returns the close code when the session has ended.
  Future<int?> run() async {
    int? code;
    while (true) {
      try {
        if (_attempts > 0) {
          final longest = min(30000, 500 << min(_attempts, 6));
          await Future<void>.delayed(Duration(milliseconds: longest ~/ 2 + Random().nextInt(longest ~/ 2)));
          await client.refresh(client.tokens!);
        }
        final url = '${client.base.replaceFirst('http', 'ws')}/ws/';
        final socket = await WebSocket.connect(url, protocols: ['chelseru']).timeout(const Duration(seconds: 10));
        // A ping without an answer ends a dead connection.
        socket.pingInterval = const Duration(seconds: 30);
        // The token goes into the first frame: addresses end up in logs.
        socket.add(jsonEncode({'type': 'auth', 'token': client.tokens!['access']}));
        await for (final text in socket) {
          _receive(socket, jsonDecode(text as String) as Json);
        }
        code = socket.closeCode;
      } on ApiError catch (error) {
        if (error.status == 401) return code;
      } on IOException {
        code = 1006;
      } on TimeoutException {
        code = 1006;
      } finally {
        _socket = null;
      }
      if (ended.contains(code) && _attempts > 1) return code;
      _attempts++;
    }
  }

  Json _place(int room) {
    final seen = _rooms[room]!;
    return {
      'room': room,
      if (seen.seq != null) 'since': seen.seq,
      if (seen.revision != null) 'revision': seen.revision,
    };
  }

  void _send(Json frame) {
    // Before `hello` nothing but the token may be sent; `hello` sends what waits.
    _socket?.add(jsonEncode(frame));
  }

  void _receive(WebSocket socket, Json frame) {
    final seen = _rooms[frame['room']];
    switch (frame['type']) {
      case 'hello':
        _socket = socket;
        _attempts = 0;
        if (_rooms.isNotEmpty) {
          _send({
            'type': 'subscribe',
            'rooms': [for (final room in _rooms.keys) _place(room)],
          });
        }
        _outbox.values.toList().forEach(_send);
      case 'subscribed' || 'reset':
        if (seen == null) break;
        // After a reset, load the room by request; what follows `seq` still comes here.
        final reset = frame['type'] == 'reset';
        if (seen.seq == null || reset) seen.seq = frame['seq'] as int;
        if (seen.revision == null || reset) seen.revision = frame['revision'] as int;
      case 'chat_message':
        final seq = frame['seq'] as int;
        if (seen == null || seq <= (seen.seq ?? 0)) break;
        seen.seq = seq;
        onMessage(frame);
      case 'message_edited' || 'message_deleted':
        final revision = frame['revision'] as int?;
        if (revision != null) seen?.revision = revision;
      case 'ack':
        _outbox.remove(frame['client_id']);
      case 'error':
        if (!const {'busy', 'rate_limited'}.contains(frame['code'])) _outbox.remove(frame['client_id']);
        stderr.writeln('refused: $frame');
    }
  }
}

/// The demonstration: log in, begin a payment, chat with account `peer` until somebody says "bye".
Future<void> main(List<String> arguments) async {
  final client = Client(arguments[0]);
  await client.login(arguments[1], (number) async {
    if (arguments.length > 2) return arguments[2];
    stdout.write('The code sent to $number: ');
    return stdin.readLineSync()!.trim();
  });
  final me = await client.request('GET', '/me/') as Json;
  print('logged in as ${me['id']}');

  final payment = await client.request('POST', '/payment/create/', {'amount': 1000}) as Json;
  print('pay at ${payment['details']['gateway_url']}');

  if (arguments.length < 4) exit(0);
  final room = await client.request('POST', '/chat/chatrooms/', {'user_id': int.parse(arguments[3])}) as Json;
  final done = Completer<void>();
  final chat = Chat(client, (frame) {
    print('${frame['seq']} ${frame['sender']['id']}: ${frame['message']}');
    if (frame['message'] == 'bye' && !done.isCompleted) done.complete();
  });
  unawaited(chat.run().then((code) {
    print('logged out ($code)');
    if (!done.isCompleted) done.complete();
  }));
  chat.watch(room['id'] as int, seq: room['last_seq'] as int?);
  chat.publish(room['id'] as int, 'hello');
  await done.future;
  exit(0);
}
