//! A CodeAct agent: it acts by writing JavaScript, which an engine inside the program itself runs. One engine
//! serves all turns, so variables stay, and the code may call a tool, `search`. An answer without code is the
//! final one. `--script` replaces the first answers, so that every run does the same work.

use boa_engine::{Context as Engine, JsString, JsValue, NativeFunction, Source};
use inferlet::{Chat, Documents, Model, Parameters, Result, SamplingParams, json, session};

const DOCUMENTS: &str = include_str!("../../agent-react/src/documents.txt");
const SYSTEM: &str = "You solve a task with JavaScript, in a block between ```javascript and ```. It is run, \
    and you are told the value of its last line. Variables stay. search('words') gives facts. Answer when you \
    know the value.";
const FENCE: &str = "```javascript\n";
const TASK: &str = "What is the sum of the first 10 prime numbers?";

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// The task.
    #[parameter(short = 'p', default = TASK)]
    prompt: String,
    /// Turns at most.
    #[parameter(short = 'f', default = 6)]
    turns: usize,
    /// Tokens of a turn at most.
    #[parameter(short = 't', default = 256)]
    max_tokens: usize,
    /// Answers in place of the first ones, with --- between.
    #[parameter(short = 's', default = "")]
    script: String,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt: task, turns, max_tokens, script } = options;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    // A small model needs to see once how it goes.
    chat.system(SYSTEM).user("How many days are 3 weeks?").assistant("```javascript\n3 * 7\n```");
    chat.user("The value is: 21").assistant("3 weeks are 21 days.").user(&task);
    let mut script = script.split_terminator("---");
    let (mut engine, mut results, mut answer) = (engine(), Vec::new(), None);
    for turn in 0..turns {
        let context = chat.generation_prompt()?;
        // A small model answers from memory, right or wrong, unless its first answer begins as code does.
        let start = if turn == 0 { FENCE } else { "" };
        let generation = context.append(start).generate(SamplingParams::greedy()).max_tokens(max_tokens);
        let generated = generation.answer().await?.text;
        let text = script.next().map_or_else(|| format!("{start}{generated}"), str::to_string);
        chat.assistant(&text);
        session::send(format!("{text}\n")).await?;
        let Some(code) = code_block(&text) else {
            answer = Some(text);
            break;
        };
        let result = run(&mut engine, code);
        session::send(format!("=> {result}\n")).await?;
        chat.user(&format!("The value is: {result}"));
        results.push(result);
    }
    Ok(json!({ "answer": answer, "results": results, "work": model.work().json() }).to_string())
}

/// The code between the fences.
fn code_block(text: &str) -> Option<&str> {
    Some(text.split_once(FENCE)?.1.split("```").next()?.trim())
}

/// An engine with limits, and with the tool.
fn engine() -> Engine {
    let documents: &Documents = Box::leak(Box::new(Documents::paragraphs(DOCUMENTS)));
    let search = NativeFunction::from_copy_closure(move |_, arguments, engine| {
        let words = arguments.first().unwrap_or(&JsValue::undefined()).to_string(engine)?;
        Ok(JsString::from(documents.search(&words.to_std_string_lossy(), 1).concat()).into())
    });
    let mut engine = Engine::default();
    engine.runtime_limits_mut().set_loop_iteration_limit(1_000_000);
    engine.runtime_limits_mut().set_recursion_limit(200);
    engine.register_global_callable(JsString::from("search"), 1, search).expect("it has no `search` yet");
    engine
}

/// The value of the last line of the code, or what went wrong; its beginning, where it is long.
fn run(engine: &mut Engine, code: &str) -> String {
    let value = engine.eval(Source::from_bytes(code)).and_then(|value| value.to_string(engine));
    let text = value.map_or_else(|error| format!("error: {error}"), |text| text.to_std_string_lossy());
    text.chars().take(1000).collect()
}
