//! Every call that takes time, one after the other and all at once, for tests that end the program at each of its awaits.
//!
//! `one-by-one` and `together` make all calls. With `/at/delay`, the program itself drops what it awaits when it has been
//! pending that often: at once, or when the host has had `delay` milliseconds to go on. The result says how often it was
//! pending.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use inferlet::adapter::{self, Adapter};
use inferlet::anyhow::{anyhow, bail, ensure};
use inferlet::bindings::pie::inferlet::context::{self, Context};
use inferlet::bindings::pie::inferlet::grammar::{Constraint, Source};
use inferlet::bindings::pie::inferlet::model::Model;
use inferlet::embeds::Embeddings;
use inferlet::forward::{self, Input, OutputKind, OutputRequest, Pass};
use inferlet::futures::FutureExt;
use inferlet::futures::future::{Either, LocalBoxFuture, join_all, select};
use inferlet::{Error, Result, json, mcp, messaging, runtime, session, sleep, store};

use crate::random::lora;

pub async fn run(value: &str) -> Result<String> {
    let words: Vec<&str> = value.split('/').collect();
    let (order, at, delay_ms) = match words[..] {
        [order] => (order, u32::MAX, 0),
        [order, at, delay_ms] => (order, at.parse()?, delay_ms.parse()?),
        _ => bail!("expected an order, or order/at/delay: {value}"),
    };
    let pending = Cell::new(0);
    let steps: Vec<LocalBoxFuture<Result<()>>> = vec![
        passes().boxed_local(),
        embeddings().boxed_local(),
        adapters().boxed_local(),
        grammars().boxed_local(),
        snapshots("fleeting", false).boxed_local(),
        snapshots("persistent", true).boxed_local(),
        stores().boxed_local(),
        queues().boxed_local(),
        topics().boxed_local(),
        client().boxed_local(),
        children().boxed_local(),
        servers().boxed_local(),
    ];
    let steps = match order {
        "one-by-one" => steps,
        "together" => {
            vec![join_all(steps).map(|answers| answers.into_iter().collect::<Result<()>>()).boxed_local()]
        }
        _ => bail!("no order `{order}`"),
    };
    for mut step in steps {
        let end = poll_fn(|context| match step.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => {
                pending.set(pending.get() + 1);
                if pending.get() == at { Poll::Ready(None) } else { Poll::Pending }
            }
        });
        match end.await {
            Some(answer) => answer?,
            None if delay_ms > 0 => sleep(Duration::from_millis(delay_ms)).await,
            None => {}
        }
    }
    Ok(pending.get().to_string())
}

fn model() -> Result<Model> {
    Ok(inferlet::bindings::pie::inferlet::model::open(None)?)
}

fn pass(tokens: Vec<u32>) -> Pass<'static> {
    let outputs = vec![OutputRequest { row: 0, kind: OutputKind::Entropy }];
    Pass { input: Input::Tokens(tokens), positions: None, masks: None, adapter: None, keep: true, outputs }
}

async fn filled(model: &Model) -> Result<Context> {
    let context = Context::create(model)?;
    forward::execute(&context, pass((0..40).collect())).await?;
    Ok(context)
}

async fn passes() -> Result<()> {
    let model = model()?;
    let contexts = [filled(&model).await?, Context::create(&model)?, Context::create(&model)?];
    let passes = contexts.iter().map(|context| (context, pass((0..20).collect()))).collect();
    for answer in forward::execute_many(passes).await {
        answer?;
    }
    let lengths = contexts.each_ref().map(|context| context.length());
    ensure!(lengths == [60, 20, 20], "{lengths:?}");
    runtime::usage().await?;
    Ok(())
}

async fn embeddings() -> Result<()> {
    let model = model()?;
    let embeddings = Embeddings::from_tokens(&model, vec![1, 2, 3]).await?;
    let context = Context::create(&model)?;
    let pass = Pass { input: Input::Embeddings(&embeddings), ..pass(Vec::new()) };
    forward::execute(&context, pass).await?;
    Ok(())
}

async fn adapters() -> Result<()> {
    let model = model()?;
    let adapter = Adapter::load(&model, adapter::Source::Gguf(lora::gguf(1))).await?;
    let context = Context::create(&model)?;
    forward::execute(&context, Pass { adapter: Some(&adapter), ..pass(vec![1, 2]) }).await?;
    let (config, tensors) = lora::peft(2);
    Adapter::load(&model, adapter::Source::Peft((config, tensors))).await?;
    Ok(())
}

async fn grammars() -> Result<()> {
    let model = model()?;
    Constraint::compile(&model, Source::Regex("[a-z]{3,9}".into())).await?;
    match Constraint::compile(&model, Source::Lark("start: nothing".into())).await {
        Err(Error::InvalidArgument(_)) => Ok(()),
        other => Err(anyhow!("a grammar without its rule: {:?}", other.err())),
    }
}

async fn snapshots(name: &str, persistent: bool) -> Result<()> {
    let model = model()?;
    let context = filled(&model).await?;
    context.save(name.to_string(), persistent).await?;
    // Over what is there, and of the other kind.
    context.save(name.to_string(), !persistent).await?;
    context.save(name.to_string(), persistent).await?;
    let opened = context::open(&model, name.to_string()).await?;
    ensure!(opened.length() == 40, "{} tokens of 40", opened.length());
    let saved = context::snapshots(&model).await?;
    ensure!(saved.iter().any(|one| one.name == name && one.persistent == persistent), "{saved:?}");
    context::delete(&model, name.to_string()).await?;
    ensure!(context::open(&model, name.to_string()).await.is_err(), "it is deleted");
    Ok(())
}

async fn stores() -> Result<()> {
    store::set("key".to_string(), vec![1, 2, 3]).await?;
    ensure!(store::delete("key".to_string()).await?, "the key was set");
    Ok(())
}

async fn queues() -> Result<()> {
    messaging::push("queue".to_string(), "message".to_string()).await?;
    ensure!(messaging::pull("queue".to_string()).await? == "message");
    // Nothing comes.
    let pull = Box::pin(messaging::pull("queue".to_string()));
    match select(pull, Box::pin(sleep(Duration::from_millis(1)))).await {
        Either::Left((message, _)) => bail!("a message that nobody sent: {message:?}"),
        Either::Right(_) => Ok(()),
    }
}

async fn topics() -> Result<()> {
    let subscription = messaging::subscribe("topic", false)?;
    messaging::broadcast("topic", "message", false)?;
    ensure!(subscription.next().await? == "message");
    let next = Box::pin(subscription.next());
    match select(next, Box::pin(sleep(Duration::from_millis(1)))).await {
        Either::Left((message, _)) => bail!("a message that nobody sent: {message:?}"),
        Either::Right(_) => Ok(()),
    }
}

async fn client() -> Result<()> {
    session::send("text".to_string()).await?;
    session::send_blob(vec![1, 2, 3]).await?;
    // The client sends one of each, and then is gone.
    ensure!(session::receive().await? == "text" && session::receive_blob().await? == [7]);
    ensure!(session::receive().await.is_err(), "the client is gone");
    Ok(())
}

async fn children() -> Result<()> {
    let launch =
        |words: [&str; 2]| runtime::launch("test-programs".to_string(), words.map(String::from).to_vec());
    let child = launch(["hello", "child"]).await?;
    ensure!(child.wait().await? == "hello child");
    let child = launch(["spin", ""]).await?;
    match select(Box::pin(child.wait()), Box::pin(sleep(Duration::from_millis(1)))).await {
        Either::Left((answer, _)) => bail!("a program that spins has ended: {answer:?}"),
        Either::Right((_, waits)) => {
            child.cancel();
            ensure!(waits.await.is_err(), "it was cancelled");
        }
    }
    Ok(())
}

async fn servers() -> Result<()> {
    let server = mcp::Server::open("test")?;
    ensure!(server.tools().await?.len() == 3);
    ensure!(server.call("echo", &json!({ "a": 1 })).await?.structured == Some(json!({ "a": 1 })));
    let (slow, nothing) = (String::from("slow"), json!({}));
    match select(Box::pin(server.call(&slow, &nothing)), Box::pin(sleep(Duration::from_millis(1)))).await {
        Either::Left((answer, _)) => bail!("a tool that never answers has: {answer:?}"),
        Either::Right(_) => Ok(()),
    }
}
