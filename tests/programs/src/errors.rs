//! Every function with wrong arguments: each must answer with the right kind of error.

use inferlet::anyhow::{anyhow, ensure};
use inferlet::bindings::pie::inferlet::forward::{self, Input, OutputKind, OutputRequest, Pass, Sampling};
use inferlet::bindings::pie::inferlet::grammar::{Constraint, Source};
use inferlet::bindings::pie::inferlet::model::{ChatOptions, Message};
use inferlet::bindings::pie::inferlet::{adapter, context, embeds, messaging, model as api, runtime, store};
use inferlet::{Error, Model, Result, Sampler};

/// Checks that `answer` is an error of this kind, and counts it.
macro_rules! expect {
    ($count:ident, $kind:ident, $answer:expr) => {
        match $answer {
            Err(Error::$kind(_)) => $count += 1,
            other => {
                return Err(anyhow!(
                    "{}: expected {}, got {other:?}",
                    stringify!($answer),
                    stringify!($kind)
                ));
            }
        }
    };
}

fn pass(tokens: Vec<u32>, outputs: Vec<OutputRequest<'_>>) -> Pass<'_> {
    Pass { input: Input::Tokens(tokens), positions: None, masks: None, adapter: None, keep: true, outputs }
}

pub async fn all() -> Result<String> {
    let model = Model::open_default()?;
    let vocabulary = model.facts().vocabulary_size;
    let handle = model.handle();
    let context = context::Context::create(handle)?;
    let mut count = 0;

    expect!(count, NotFound, api::open(Some("no such model")));
    expect!(count, InvalidArgument, handle.detokenize(&[vocabulary]));
    let message = Message { role: "user".into(), content: "x".into(), tool_calls: Some("no json".into()) };
    let options = ChatOptions { add_generation_prompt: true, tools: None };
    expect!(count, InvalidArgument, handle.format_chat(&[message], &options));

    expect!(count, InvalidArgument, context.truncate(1));
    expect!(count, InvalidArgument, context.remove(0, 1));
    expect!(count, InvalidArgument, context.remove(3, 2));
    expect!(count, InvalidArgument, context.slice(0, 1));
    expect!(count, InvalidArgument, context.append(&context));
    expect!(count, LimitExceeded, context.save("n".repeat(1000), false).await);
    expect!(count, NotFound, context::open(handle, "no such snapshot".into()).await);
    expect!(count, NotFound, context::delete(handle, "no such snapshot".into()).await);

    expect!(count, InvalidArgument, forward::execute(&context, pass(vec![], vec![])).await);
    expect!(count, InvalidArgument, forward::execute(&context, pass(vec![vocabulary], vec![])).await);
    let far = Pass { positions: Some(vec![u32::MAX]), ..pass(vec![1], vec![]) };
    expect!(count, InvalidArgument, forward::execute(&context, far).await);
    let uneven = Pass { positions: Some(vec![1, 2]), ..pass(vec![1], vec![]) };
    expect!(count, InvalidArgument, forward::execute(&context, uneven).await);
    let masks = Pass { masks: Some(vec![]), ..pass(vec![1], vec![]) };
    expect!(count, InvalidArgument, forward::execute(&context, masks).await);
    let outputs = [
        (1, OutputKind::Entropy),
        (0, OutputKind::TopK(0)),
        (0, OutputKind::TopK(u32::MAX)),
        (0, OutputKind::LogProbs(vec![vocabulary])),
    ];
    for (row, kind) in outputs {
        let request = vec![OutputRequest { row, kind }];
        expect!(count, InvalidArgument, forward::execute(&context, pass(vec![1], request)).await);
    }
    let greedy = || Sampler::greedy().sampling(&[], None);
    let samplings = [
        Sampling { temperature: -1.0, ..greedy() },
        Sampling { temperature: f32::NAN, ..greedy() },
        Sampling { top_p: 0.0, ..greedy() },
        Sampling { min_p: 1.5, ..greedy() },
        Sampling { repetition_penalty: 0.0, ..greedy() },
        Sampling { presence_penalty: f32::INFINITY, ..greedy() },
        Sampling { history: vec![vocabulary], ..greedy() },
        Sampling { logit_bias: vec![(vocabulary, 0.0)], ..greedy() },
        Sampling { logit_bias: vec![(0, f32::NAN)], ..greedy() },
        Sampling { logit_bias: (0..vocabulary).map(|t| (t, f32::NEG_INFINITY)).collect(), ..greedy() },
    ];
    for sampling in samplings {
        let request = vec![OutputRequest { row: 0, kind: OutputKind::Token(sampling) }];
        let answer = forward::execute(&context, Pass { keep: false, ..pass(vec![1], request) }).await;
        expect!(count, InvalidArgument, answer);
    }
    let logits = |row| OutputRequest { row, kind: OutputKind::Logits };
    let many = (0..(17 << 20) / vocabulary).map(|_| logits(0)).collect();
    expect!(count, LimitExceeded, forward::execute(&context, pass(vec![1], many)).await);
    let many =
        forward::execute_many(vec![(&context, pass(vec![], vec![])), (&context, pass(vec![1], vec![]))])
            .await;
    let [first, second] = <[_; 2]>::try_from(many).map_err(|_| anyhow!("two passes have two answers"))?;
    expect!(count, InvalidArgument, first);
    ensure!(second.is_ok(), "a wrong pass spoils the other: {second:?}");

    expect!(count, InvalidArgument, embeds::Embeddings::from_tokens(handle, vec![]).await);
    expect!(count, InvalidArgument, embeds::Embeddings::from_tokens(handle, vec![vocabulary]).await);
    expect!(count, InvalidArgument, embeds::Embeddings::from_values(handle, &[1.0]));
    let hidden = model.facts().hidden_size as usize;
    expect!(count, InvalidArgument, embeds::Embeddings::from_values(handle, &vec![f32::NAN; hidden]));

    for source in [
        Source::JsonSchema("{".into()),
        Source::Regex("(".into()),
        Source::Lark("start: nothing".into()),
        Source::Ebnf("root ::= nothing".into()),
    ] {
        expect!(count, InvalidArgument, Constraint::compile(handle, source).await);
    }
    expect!(count, LimitExceeded, Constraint::compile(handle, Source::Regex("x".repeat(2 << 20))).await);
    let constraint = Constraint::compile(handle, Source::Regex("abc".into())).await?;
    expect!(count, InvalidArgument, constraint.advance(&model.tokenize("z")));
    expect!(count, InvalidArgument, constraint.advance(&[vocabulary]));
    expect!(count, InvalidArgument, constraint.rollback(1));

    expect!(count, NotFound, adapter::Adapter::load(handle, adapter::Source::Name("../none".into())).await);
    expect!(count, InvalidArgument, adapter::Adapter::load(handle, adapter::Source::Gguf(vec![1])).await);
    let peft = adapter::Source::Peft(("{}".into(), vec![]));
    expect!(count, InvalidArgument, adapter::Adapter::load(handle, peft).await);

    expect!(count, NotFound, runtime::launch("no such program".into(), vec![]).await);
    expect!(count, LimitExceeded, runtime::launch("x".into(), vec!["y".repeat(2 << 20)]).await);
    expect!(count, LimitExceeded, store::set("k".repeat(5000), vec![]).await);
    expect!(count, LimitExceeded, messaging::broadcast(&"t".repeat(1000), "m", false));
    expect!(count, LimitExceeded, messaging::broadcast("t", &"m".repeat(2 << 20), false));
    expect!(count, LimitExceeded, messaging::subscribe(&"t".repeat(1000), false));
    expect!(count, LimitExceeded, messaging::push("q".repeat(1000), "m".into()).await);
    expect!(count, LimitExceeded, messaging::pull("q".repeat(1000)).await);
    Ok(format!("{count} errors"))
}
