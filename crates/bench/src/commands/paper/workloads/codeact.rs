//! CodeAct: a scripted agent that acts by JavaScript. Each turn generates as many tokens as it is told to and takes the
//! script's answer in their place; the program runs its code in an engine of its own, the client takes the recorded value.

use super::{Bars, Workload, assistant, options, system, user};
use crate::commands::paper::api::Ask;

const SYSTEM: &str = "You solve a task with JavaScript, in a block between ```javascript and ```. It is run, and you \
    are told the value of its last line. Answer when you know the value.";
const TASK: &str = "What is the sum of the first 10 prime numbers?";
const CODE: [&str; 2] = [
    "const primes = [];\nfor (let n = 2; primes.length < 10; n++) if (primes.every(p => n % p)) primes.push(n);\nprimes",
    "primes.reduce((sum, prime) => sum + prime, 0)",
];
const VALUES: [&str; 2] = ["2,3,5,7,11,13,17,19,23,29", "129"];
const TOKENS: usize = 16;

pub(super) const WORKLOAD: Workload = Workload {
    name: "codeact",
    program: "agent-codeact-bench",
    source: include_str!("../../../../../../inferlets/agent-codeact-bench/src/lib.rs"),
    texts: &[SYSTEM, TASK, CODE[0], CODE[1]],
    instances: 128,
    paper: Some(Bars { latency: [0.716, 1.0], throughput: [1.0, 0.751] }),
    arguments: |_| options(&[("max-tokens", &TOKENS.to_string())]),
    baseline: |api, _| {
        let mut messages = vec![system(SYSTEM), user(TASK)];
        for (code, value) in CODE.iter().zip(VALUES) {
            api.complete(Ask::new(api.prompt(&messages), TOKENS).ignore_eos())?;
            messages.push(assistant(&format!("```javascript\n{code}\n```")));
            messages.push(user(&format!("The value is: {value}")));
        }
        api.complete(Ask::new(api.prompt(&messages), TOKENS).ignore_eos())?;
        Ok(())
    },
    differs: Some("the client runs no JavaScript: it takes the values, which are known"),
};
