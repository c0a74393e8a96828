// An SMS provider in JavaScript: what `chelseru plugin new` writes in Rust. It maps one imagined provider, which takes
// {"key", "to", "text"} and answers {"id"} or {"error", "text"}.
import { send as request } from 'chelseru:provider/http@0.1.0';
import { get as value } from 'chelseru:provider/settings@0.1.0';

export const plugin = {
  describe() {
    return {
      name: 'hello-js',
      version: '0.1.0',
      summary: 'Hello: texts, in JavaScript.',
      settings: [
        setting('api_key', 'text', undefined, 'Key from the panel.'),
        setting('base_url', 'url', 'https://sms.example', 'Address of the provider.'),
      ],
      hosts: ['sms.example'],
    };
  },
};

export const smsText = {
  getLimits() {
    return { recipientsMax: 1, charactersMax: 0, deduplicates: false };
  },

  send({ recipients: [recipient], text }) {
    const body = JSON.stringify({ key: value('api_key'), to: recipient.number, text });
    const answer = ask(`${value('base_url')}/send`, body);
    // Whatever is not clearly a success or a refusal may have been sent.
    const result = parsed(answer);
    if (result?.error) {
      const rejection = { code: String(result.error), text: String(result.text ?? ''), field: undefined };
      throw { tag: 'rejected', val: rejection };
    }
    // A page with a redirect or a client error is not the provider's: whoever sent it did not take the message.
    if (!result?.id && answer.status >= 300 && answer.status < 500 && answer.status !== 408) {
      throw { tag: 'unavailable', val: `HTTP ${answer.status}` };
    }
    if (!result?.id) throw { tag: 'unknown-outcome', val: `HTTP ${answer.status} without an id` };
    const accepted = { messageId: String(result.id), duplicate: false, costRial: undefined };
    return [{ number: recipient.number, outcome: { tag: 'ok', val: accepted } }];
  },
};

// A setting without a default is required, and only those are secret here.
function setting(key, kind, fallback, help) {
  const required = fallback === undefined;
  return { key, kind, required, secret: required, default: fallback, help, replaces: [] };
}

function ask(url, body) {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  try {
    return request({ method: 'post', url, headers, body: new TextEncoder().encode(body), timeoutMs: undefined });
  } catch ({ payload }) {
    // Which of the errors it is decides whether the message may have left.
    const sent = payload.tag === 'unanswered' || payload.tag === 'too-large';
    throw sent
      ? { tag: 'unknown-outcome', val: 'no whole answer' }
      : { tag: 'unavailable', val: 'the request was not sent' };
  }
}

function parsed(answer) {
  try {
    return JSON.parse(new TextDecoder().decode(answer.body));
  } catch {
    return null;
  }
}
