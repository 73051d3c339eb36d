//! A ReAct agent with the tools of an MCP server that the operator has configured. An action is a call in JSON, of a form
//! that the tools' own schemas give, so that even a small model calls a tool that exists.

use std::fmt::Write;

use inferlet::{
    Chat, Constraint, Grammar, Model, Parameters, Result, SamplingParams, Value, json, mcp, session,
};
use inferlet::{tool_call_schema, tool_calls};

const SYSTEM: &str = "You answer a question in steps. Each step is two lines, a Thought and an Action, and then you are \
given the Observation. An Action is a call of a tool. When the observations answer the question, write Final Answer: and \
the answer. The tools are:\n";

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// The MCP server.
    #[parameter(short = 'm', default = "math")]
    mcp: String,
    /// The question.
    #[parameter(short = 'p', default = "What is 2 plus 3?")]
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
    let Options { mcp: server, prompt: task, steps, max_tokens } = options;

    let model = Model::open_default()?;
    ServerTools::of(&server, &model).await?.answer(&model, &task, steps, max_tokens).await
}

/// The tools of a server.
struct ServerTools {
    server: mcp::Server,
    /// What the model is told of them.
    system: String,
    /// The form of a call.
    call: Constraint,
}

impl ServerTools {
    /// Those of the server of a name.
    async fn of(name: &str, model: &Model) -> Result<ServerTools> {
        let server = mcp::Server::open(name)?;
        let tools = server.tools().await?;
        let mut system = SYSTEM.to_string();
        for mcp::Tool { name, description, input_schema, .. } in &tools {
            let about = description.as_deref().unwrap_or_default();
            writeln!(system, "{name}: {about} Its arguments: {input_schema}")?;
        }
        let functions = tools.iter().map(mcp::Tool::function).collect::<Vec<_>>();
        let schema = tool_call_schema(&Value::Array(functions)).to_string();
        let call = model.constraint(Grammar::JsonSchema(schema)).await?;
        Ok(ServerTools { server, system, call })
    }

    /// Answers a question in steps.
    async fn answer(&self, model: &Model, task: &str, steps: usize, max_tokens: usize) -> Result<String> {
        let mut chat = Chat::new(model)?;
        let question = format!("Question: {task}");
        let context = chat.system(&self.system).user(&question).generation_prompt()?;
        let (mut calls, mut answer) = (Vec::new(), None);
        for _ in 0..steps {
            context.append("Thought:");
            let thought = context.generate(SamplingParams::greedy()).max_tokens(max_tokens);
            let thought = thought.stop("\nAction:").stop("\nThought:").stop("\n\n").answer().await?.text;
            session::send(format!("Thought:{thought}\n")).await?;
            answer = thought.split_once("Final Answer:").map(|(_, answer)| answer.trim().to_string());
            if answer.is_some() {
                break;
            }
            context.append("\nAction: ");
            let action = context.generate(SamplingParams::greedy()).constrain(&self.call);
            let action = action.max_tokens(max_tokens).answer().await?.text;
            let result = self.act(&action).await?;
            session::send(format!("Action: {action}\nObservation: {result}\n")).await?;
            context.append(&format!("\nObservation: {result}\n"));
            calls.push(json!({ "call": action, "result": result }));
        }
        let cached = context.tokens().len() - context.pending().len();
        let work = model.work().json();
        Ok(json!({ "answer": answer, "calls": calls, "cached_tokens": cached, "work": work }).to_string())
    }

    /// Makes a call; its result, or what is wrong with it.
    async fn act(&self, action: &str) -> Result<String> {
        let calls = tool_calls(action);
        let Some(call) = calls.first() else {
            return Ok("error: the call was not written to its end".to_string());
        };
        let outcome = self.server.call(&call.name, &call.arguments).await?;
        let text = outcome.text();
        Ok(if outcome.is_error { format!("error: {text}") } else { text })
    }
}

#[cfg(test)]
mod tests {
    use inferlet::testing::{Host, ScriptedModel, ScriptedServer};

    use super::*;

    #[test]
    fn it_calls_tools_until_it_has_the_answer() {
        let schema = json!({
            "type": "object", "required": ["city"], "additionalProperties": false,
            "properties": { "city": { "enum": ["Paris"] } },
        });
        let weather = |arguments: &Value| match arguments["city"].as_str() {
            Some(city) => Ok(format!("rain in {city}")),
            None => Err("`city` is missing".to_string()),
        };
        let server = ScriptedServer::new("weather").tool("now", "The weather.", schema, weather);
        let model = ScriptedModel::new()
            .context_length(8192)
            .says("How is it?", "x")
            .says("Thought:", " I look.")
            .says("Action: ", r#"{"name": "now", "arguments": {"city": "Paris"}}"#)
            .says("rain in Paris\nThought:", " Final Answer: rain");
        let host = Host::new().model(model).mcp(server);
        let report = host.run(async {
            let model = Model::open_default().unwrap();
            let tools = ServerTools::of("weather", &model).await.unwrap();
            tools.answer(&model, "How is it?", 4, 80).await.unwrap()
        });
        let report: Value = inferlet::serde_json::from_str(&report).unwrap();
        assert_eq!(report["answer"], "rain", "{report}");
        assert_eq!(host.mcp_calls(), [r#"weather.now {"city":"Paris"}"#]);
    }
}
