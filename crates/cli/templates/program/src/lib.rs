//! Answers a question, and streams the answer to the client.

use inferlet::{Args, Chat, Model, Result, SamplingParams, session};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let question = args.option("question", 'q', "what to ask", "What is the capital of France?".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 128)?;
    args.finish()?;

    let mut chat = Chat::new(&Model::open_default()?)?;
    chat.user(&question);
    let mut generation = chat.generate(SamplingParams::greedy())?.max_tokens(max_tokens);
    while let Some(item) = generation.next().await? {
        session::send(item.text).await?;
    }
    // What is returned is the program's result; `pie run` prints it at the end.
    Ok(format!("\n({} tokens)", generation.tokens().len()))
}

#[cfg(test)]
mod tests {
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    /// `pie test` runs the program without a server, on a model that says what it is told to.
    #[test]
    fn the_answer_is_streamed() {
        let host = Host::new().model(ScriptedModel::new().says("Where?", "There."));
        let arguments = ["--question", "Where?"].map(str::to_string).to_vec();
        let result = host.run(main(Args::new(arguments))).unwrap();
        assert_eq!(host.sent().concat(), "There.");
        assert_eq!(result, "\n(6 tokens)");
    }
}
