// Questions as lines of JSON on standard input, answers as lines of JSON on standard output, in turn.
import { createInterface } from 'node:readline';

// Until the input ends. A question names one of the operations; what that throws is its answer.
export async function answerLines(operations) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { operation, ...question } = JSON.parse(line);
    let reply;
    try {
      reply = { answer: await operations[operation](question) };
    } catch (error) {
      reply = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
}
