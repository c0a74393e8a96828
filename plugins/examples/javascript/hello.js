// An SMS provider in JavaScript: what `chelseru plugin new` writes in Rust. It maps one imagined provider, which takes
// {"key", "to", "text"} and answers {"id"} or {"error", "text"}.
import { send as request } from 'chelseru:provider/http@0.1.0';
import { get as setting } from 'chelseru:provider/settings@0.1.0';

export const plugin = {
  describe() {
    return {
      name: 'hello-js',
      version: '0.1.0',
      summary: 'Hello: texts, in JavaScript.',
      settings: [
        { key: 'api_key', kind: 'text', required: true, secret: true, default: undefined, help: 'Key from the panel.' },
        { key: 'base_url', kind: 'url', required: false, secret: false, default: 'https://sms.example', help: 'Where the provider answers.' },
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
    const body = JSON.stringify({ key: setting('api_key'), to: recipient.number, text });
    const answer = ask(`${setting('base_url')}/send`, body);
    // Whatever is not clearly a success or a refusal may have been sent.
    const result = parsed(answer);
    if (result?.error) throw { tag: 'rejected', val: { code: String(result.error), text: String(result.text ?? '') } };
    if (!result?.id) throw { tag: 'unknown-outcome', val: `HTTP ${answer.status} without an id` };
    const accepted = { messageId: String(result.id), duplicate: false, costRial: undefined };
    return [{ number: recipient.number, outcome: { tag: 'ok', val: accepted } }];
  },
};

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
