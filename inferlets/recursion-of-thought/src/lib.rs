//! Recursion of thought: a problem is either answered at once or split in two, each half is solved the same
//! way in a fork of its own, both at once, and the solutions are put together.

use inferlet::futures::future::LocalBoxFuture;
use inferlet::futures::{FutureExt, try_join};
use inferlet::{Chat, Grammar, Model, Parameters, Result, SamplingParams, json, session};

const SYSTEM: &str = "You solve a problem by splitting it into smaller ones.";
/// The branches come first: small models take up the form that they read first.
const DIVIDE: &str = "Write two smaller problems that help to solve this one, as \
    <branch>problem</branch><branch>problem</branch>. Only if you know the answer, write <leaf>answer</leaf>. ";
/// A leaf or two branches: nothing else can be generated.
const FORM: &str = "<leaf>[^<\n]{1,80}</leaf>|<branch>[^<\n]{1,80}</branch><branch>[^<\n]{1,80}</branch>";

struct Solver {
    /// The conversation that every problem starts from.
    base: Chat,
    max_depth: usize,
    max_tokens: usize,
}

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Problem to solve.
    #[parameter(short = 'q', default = "What is the sum of 123456789 and 987654321?")]
    question: String,
    /// Of the recursion at most.
    #[parameter(short = 'd', default = 5)]
    depth: usize,
    /// Tokens of a thought at most.
    #[parameter(short = 't', default = 128)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { question, depth: max_depth, max_tokens } = options;

    let model = Model::open_default()?;
    let mut base = Chat::new(&model)?;
    base.system(SYSTEM).prefill().await?;
    let solver = Solver { base, max_depth, max_tokens };
    let (answer, problems) = solver.solve(question, 0).await?;
    Ok(json!({ "answer": answer, "problems": problems, "work": model.work().json() }).to_string())
}

impl Solver {
    /// The solution, and how many problems were looked at for it.
    fn solve(&self, problem: String, depth: usize) -> LocalBoxFuture<'_, Result<(String, usize)>> {
        async move {
            session::send(format!("{}{problem}\n", "  ".repeat(depth))).await?;
            if depth >= self.max_depth {
                return Ok((self.ask(&format!("Answer briefly: {problem}")).await?, 1));
            }
            let mut chat = self.base.fork()?;
            chat.user(&format!("{DIVIDE}{problem}"));
            let form = Grammar::Regex(FORM.to_string());
            let split = chat.answer_in(form, SamplingParams::greedy(), self.max_tokens).await?;
            if !split.complete {
                // Neither a leaf nor two branches within the tokens allowed: answer without splitting.
                return Ok((self.ask(&format!("Answer briefly: {problem}")).await?, 1));
            }
            if let Some(answer) = within(&split.text, "leaf").pop() {
                return Ok((answer, 1));
            }
            let mut branches = within(&split.text, "branch").into_iter();
            let (first, second) = (branches.next().unwrap_or_default(), branches.next().unwrap_or_default());
            let halves =
                try_join!(self.solve(first.clone(), depth + 1), self.solve(second.clone(), depth + 1));
            let ((one, count), (two, more)) = halves?;
            let known = format!("{first}: {one}\n{second}: {two}\nPut together, briefly: {problem}");
            Ok((self.ask(&known).await?, 1 + count + more))
        }
        .boxed_local()
    }

    /// One question in a fork of the base conversation.
    async fn ask(&self, question: &str) -> Result<String> {
        Ok(self.base.fork()?.user(question).answer(SamplingParams::greedy(), self.max_tokens).await?.text)
    }
}

/// The texts between `<tag>` and `</tag>`.
fn within(text: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    text.split(&open).skip(1).filter_map(|part| Some(part.split_once(&close)?.0.trim().to_string())).collect()
}
