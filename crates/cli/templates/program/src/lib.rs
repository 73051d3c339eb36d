//! Answers a question, and streams the answer to the client.

use inferlet::{Chat, Model, Parameters, Result, SamplingParams, session};

/// What the program can be given: `pie run . --help` shows it.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'q', default = "What is the capital of France?")]
    question: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 128)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let mut chat = Chat::new(&Model::open_default()?)?;
    chat.user(&options.question);
    let mut generation = chat.generate(SamplingParams::greedy())?.max_tokens(options.max_tokens);
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
        let options = Options::from_arguments(&["--question", "Where?"]).unwrap();
        let result = host.run(main(options)).unwrap();
        assert_eq!(host.sent().concat(), "There.");
        assert_eq!(result, "\n(6 tokens)");
    }
}
