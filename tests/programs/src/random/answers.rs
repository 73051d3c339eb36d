//! Random calls of `answer`: markup of several families, whole, cut and damaged.

use inferlet::Error;
use inferlet::bindings::pie::inferlet::answer::{self, CallOptions, Reader, ReaderOptions, ReasoningPlace};
use inferlet::bindings::pie::inferlet::model::Model;

use super::draw::Random;
use super::{New, Program};

const TOOLS: &str = r#"[{"type":"function","function":{"name":"add","parameters":{"type":"object",
    "properties":{"a":{"type":"integer"},"s":{"type":"string"}},"required":["a"]}}}]"#;

/// Pieces of answers.
const PIECES: [&str; 12] = [
    "Hello. ",
    "<think>",
    "</think>",
    "<tool_call>",
    "\n{\"name\": \"add\", \"arguments\": ",
    "{\"a\": 1, \"s\": \"x</tool_call>\"}",
    "}\n",
    "</tool_call>",
    "<",
    "[TOOL_CALLS]",
    "é\u{1f600}",
    "{",
];

fn tools(random: &mut Random) -> String {
    match random.below(6) {
        0 => random.text(),
        1 => "[]".into(),
        2 => "[{}]".into(),
        _ => TOOLS.into(),
    }
}

impl Program {
    pub(super) fn answer_call(&mut self, name: &'static str, model: &Model) -> Option<Result<New, Error>> {
        let random = &mut self.random;
        let result = match name {
            "answer.opens-reasoning" => {
                answer::opens_reasoning(model, &random.tokens(288)).map(|_| New::Nothing)
            }
            "answer.call-grammar" => {
                let names = [None, None, Some("add"), Some("nothing")];
                let places = [ReasoningPlace::None, ReasoningPlace::Before, ReasoningPlace::Opened];
                let options = CallOptions {
                    tools: tools(random),
                    name: names[random.index(names.len())].map(str::to_string),
                    parallel: random.chance(50),
                    reasoning: places[random.index(places.len())],
                };
                answer::call_grammar(model, &options).map(|_| New::Nothing)
            }
            "answer.call-triggers" => {
                let parallel = random.chance(50);
                answer::call_triggers(model, &tools(random), parallel).map(|_| New::Nothing)
            }
            "answer.create" => {
                let options = ReaderOptions {
                    tools: random.chance(80).then(|| tools(random)),
                    any_tool: random.chance(30),
                    in_reasoning: random.chance(30),
                };
                Reader::create(model, &options).map(New::Reader)
            }
            "answer.read" => {
                let pieces = 1 + random.below(6);
                let text: String = (0..pieces).map(|_| PIECES[random.index(PIECES.len())]).collect();
                let text = if random.chance(20) { random.text() } else { text };
                random.pick(&self.readers)?.read(&text).map(|_| New::Nothing)
            }
            "answer.finish" => {
                random.pick(&self.readers)?.finish();
                Ok(New::Nothing)
            }
            _ => panic!("`{name}` has no call"),
        };
        Some(result)
    }
}
