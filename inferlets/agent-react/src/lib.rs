//! A ReAct agent: think, call a tool, read its result, think on. The tools are a calculator, and a search
//! over the documents beside this file. The context stays in the cache while a tool runs, so after an
//! observation only the observation is computed.

use inferlet::{Chat, Documents, Model, Parameters, Result, SamplingParams, calculate, json, session};

const SYSTEM: &str = "You answer a question in steps. Each step is two lines, a Thought and an Action, and \
then you are given the Observation. The actions are Search[words], which looks up facts, and \
Calculator[expression], which computes. When the observations answer the question, write Final Answer: and the answer. An example:

Question: How many legs do 12 spiders have?
Thought: I need to know how many legs a spider has.
Action: Search[legs of a spider]
Observation: A spider has 8 legs.
Thought: 12 spiders have 12 times 8 legs.
Action: Calculator[12 * 8]
Observation: 96
Thought: I know the answer.
Final Answer: 96";
const TASK: &str = "How high is the Eiffel Tower?";

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// The question.
    #[parameter(short = 'p', default = TASK)]
    prompt: String,
    /// Steps at most.
    #[parameter(short = 's', default = 6)]
    steps: usize,
    /// Tokens of a step at most.
    #[parameter(short = 'n', default = 96)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt: task, steps, max_tokens } = options;

    let model = Model::open_default()?;
    let documents = Documents::paragraphs(include_str!("documents.txt"));
    let mut chat = Chat::new(&model)?;
    let context = chat.system(SYSTEM).user(&format!("Question: {task}")).generation_prompt()?;
    let (mut calls, mut answer) = (Vec::new(), None);
    for _ in 0..steps {
        context.append("Thought:");
        let step = context.generate(SamplingParams::greedy()).max_tokens(max_tokens);
        let step = step.stop("\nObservation:").stop("\nThought:").stop("\n\n").answer().await?.text;
        session::send(format!("Thought:{step}\n")).await?;
        answer = step.split_once("Final Answer:").map(|(_, answer)| answer.trim().to_string());
        if answer.is_some() {
            break;
        }
        let (call, result) = act(&documents, &step);
        session::send(format!("Observation: {result}\n")).await?;
        context.append(&format!("\nObservation: {result}\n"));
        calls.push(json!({ "call": call, "result": result }));
    }
    let cached = context.tokens().len() - context.pending().len();
    let work = model.work().json();
    Ok(json!({ "answer": answer, "calls": calls, "cached_tokens": cached, "work": work }).to_string())
}

/// Carries out the action of a step: the call, and its result or what is wrong with it.
fn act<'a>(documents: &Documents, step: &'a str) -> (Option<&'a str>, String) {
    let call = step.split_once("Action:").and_then(|(_, action)| action.trim().lines().next());
    let parts = call.and_then(|call| call.strip_suffix(']')?.split_once('['));
    let result = match parts {
        Some(("Search", words)) => match documents.search(words, 2).join(" ") {
            found if found.is_empty() => "nothing was found".to_string(),
            found => found,
        },
        Some(("Calculator", expression)) => {
            calculate(expression).map_or_else(|error| format!("error: {error}"), |value| value.to_string())
        }
        _ => "error: write Action: and then Search[words] or Calculator[expression]".to_string(),
    };
    (call, result)
}
