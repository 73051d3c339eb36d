//! Messages, the store, and programs that launch programs.

use std::time::{Duration, Instant};

use inferlet::anyhow::ensure;
use inferlet::futures::future::{join, try_join_all};
use inferlet::{Result, messaging, runtime, session, store};

/// Sends back what comes in, until `end`; blobs too.
pub async fn echo() -> Result<String> {
    loop {
        let text = session::receive().await?;
        if text == "end" {
            break;
        }
        session::send(text).await?;
    }
    let blob = session::receive_blob().await?;
    session::send_blob(blob).await?;
    println!("to stdout");
    eprintln!("to stderr");
    Ok(String::new())
}

/// Stores a value that says its key again and again.
pub async fn put(key: &str) -> Result<String> {
    store::set(key.to_string(), key.repeat(1000).into_bytes()).await?;
    Ok("put".to_string())
}

/// Whether what [`put`] stored is there, whole.
pub async fn got(key: &str) -> Result<String> {
    let found = store::get(key)?;
    ensure!(
        found.as_deref() == Some(key.repeat(1000).as_bytes()),
        "`{key}` is {:?}",
        found.map(|value| value.len())
    );
    Ok("got".to_string())
}

pub async fn store() -> Result<String> {
    ensure!(store::get("a/1")?.is_none(), "the store begins empty");
    for key in ["a/2", "a/1", "b"] {
        store::set(key.to_string(), key.as_bytes().to_vec()).await?;
    }
    ensure!(store::keys("a/")? == ["a/1", "a/2"]);
    ensure!(store::get("b")?.as_deref() == Some(b"b".as_slice()));
    ensure!(store::delete("b".to_string()).await? && !store::delete("b".to_string()).await?);
    Ok("stored".into())
}

/// A speaker that keeps its messages, and a listener that comes later.
pub async fn topics(role: &str) -> Result<String> {
    if role == "speak" {
        messaging::broadcast("news", "one", true)?;
        messaging::broadcast("news", "two", true)?;
        return Ok("spoken".into());
    }
    let subscription = messaging::subscribe("news", true)?;
    Ok(format!("{} {}", subscription.next().await?, subscription.next().await?))
}

pub async fn queues() -> Result<String> {
    let take = async {
        let (first, second) =
            (messaging::pull("q".to_string()).await?, messaging::pull("q".to_string()).await?);
        Ok::<_, inferlet::anyhow::Error>(format!("{first}{second}"))
    };
    let give = async {
        messaging::push("q".to_string(), "1".to_string()).await?;
        messaging::push("q".to_string(), "2".to_string()).await
    };
    let (taken, given) = join(take, give).await;
    given?;
    taken
}

/// Launches `program` three times; the last one spins and is cancelled.
pub async fn launch(program: &str) -> Result<String> {
    let start =
        |words: &[&str]| runtime::launch(program.to_string(), words.iter().map(|w| w.to_string()).collect());
    let (one, two) = (start(&["hello", "child"]).await?, start(&["fail"]).await?);
    let spinning = start(&["spin"]).await?;
    ensure!(one.id() != two.id());
    let (one, two) = join(one.wait(), two.wait()).await;
    spinning.cancel();
    let cancelled = spinning.wait().await;
    Ok(format!("{one:?} {two:?} {cancelled:?}"))
}

/// Launches so many programs at once that each hold three contexts of 200 tokens, and gives what each drew.
pub async fn crowd(count: &str) -> Result<String> {
    let arguments = |i: u32| vec!["pages".to_string(), "200".to_string(), format!("{i} is my name")];
    let launched = (0..count.parse()?).map(|i| runtime::launch("test-programs".to_string(), arguments(i)));
    let children = try_join_all(launched).await?;
    let drawn = try_join_all(children.iter().map(|child| child.wait())).await?;
    Ok(drawn.join("\n"))
}

/// Two sleeps at once take as long as one.
pub async fn sleep() -> Result<String> {
    let start = Instant::now();
    join(inferlet::sleep(Duration::from_millis(60)), inferlet::sleep(Duration::from_millis(60))).await;
    let elapsed = start.elapsed();
    ensure!(elapsed >= Duration::from_millis(60), "slept {elapsed:?}");
    Ok("slept".into())
}
