//! Sessions where there are keys: whose inferlets they see, what a key allows, and how many there may be.

mod common;

use std::time::Duration;

use common::raw::Raw;
use common::{World, words};
use protocol::ErrorCode;
use protocol::client::{Client, ClientError, Options};
use runtime::GrantOptions;
use server::{ClientBounds, FrontOptions, HttpLimits, Key, SessionOptions};

/// A key, and its text.
fn key(world: &World, id: &str, grant: GrantOptions) -> (Key, String) {
    let text = format!("sk-pie-{id}-secret");
    let options = GrantOptions { name: id.into(), ..grant };
    let key = Key {
        id: id.into(),
        hash: blake3::hash(text.as_bytes()),
        expires: None,
        admin: id == "root",
        requests_per_minute: if id == "slow" { Some(2) } else { None },
        tokens_per_minute: None,
        bounds: ClientBounds::default(),
        grant: world.runtime.grant(options),
    };
    (key, text)
}

fn of(user: &str) -> GrantOptions {
    GrantOptions { user: user.into(), ..GrantOptions::default() }
}

async fn world(limits: HttpLimits, options: SessionOptions) -> World {
    World::with(options, FrontOptions { needs_key: true, limits, ..FrontOptions::default() }, None).await
}

async fn connect(world: &World, key: &str) -> Result<Client, ClientError> {
    let options = Options { key: Some(key.into()), patience: Duration::from_secs(5), ..world.options() };
    Client::connect(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_do_not_see_each_other() {
    let world = world(HttpLimits::default(), SessionOptions::default()).await;
    let keys = [("ann", "ann"), ("annas-other", "ann"), ("bob", "bob"), ("root", "ops")];
    let keys: Vec<_> =
        keys.map(|(id, user)| key(&world, id.split('-').next_back().unwrap(), of(user))).into();
    let texts: Vec<String> = keys.iter().map(|(_, text)| text.clone()).collect();
    world.front.set_keys(keys.into_iter().map(|(key, _)| key).collect());
    let ann = connect(&world, &texts[0]).await.unwrap();
    let again = connect(&world, &texts[1]).await.unwrap();
    let bob = connect(&world, &texts[2]).await.unwrap();
    assert_eq!((ann.user(), again.user(), bob.user()), ("ann", "ann", "bob"));
    let hash = ann.keep(&world.marked(9), |_, _| ()).await.unwrap();
    ann.install(&hash, "mine@1").await.unwrap();
    let mut inferlet = ann.launch("mine", &words(&["echo"])).await.unwrap();
    let id = inferlet.id().to_string();

    assert_eq!(again.list().await.unwrap()[0].id, id, "another key of the same user");
    assert_eq!(again.usage().await.unwrap().programs.used, 1);
    assert!(bob.list().await.unwrap().is_empty());
    let unknown = |result: Result<(), ClientError>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error.code(), Some(ErrorCode::UnknownInferlet | ErrorCode::UnknownProgram)),
            "{error}"
        );
    };
    unknown(bob.attach(&id, None).await.map(drop));
    unknown(bob.terminate(&id).await);
    unknown(bob.launch("mine", &[]).await.map(drop));
    unknown(bob.launch(&hash, &[]).await.map(drop));
    unknown(bob.remove(&hash).await);
    let usage = bob.usage().await.unwrap();
    assert_eq!((usage.inferlets.used, usage.programs.used, usage.event_bytes.used), (0, 0, 0));
    assert_eq!(bob.call(protocol::Call::Stats).await.unwrap_err().code(), Some(ErrorCode::Forbidden));
    let root = connect(&world, &texts[3]).await.unwrap();
    let protocol::Answer::Stats { stats } = root.call(protocol::Call::Stats).await.unwrap() else { panic!() };
    assert!(stats["metrics"].as_array().is_some_and(|metrics| !metrics.is_empty()), "{stats}");

    again.terminate(&id).await.unwrap();
    assert_eq!(inferlet.outcome().await.unwrap().unwrap_err().code, ErrorCode::Killed);
    for client in [ann, again, bob, root] {
        client.close().await;
    }
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_what_it_says_and_nothing_when_it_is_gone() {
    let options = SessionOptions { lease: Duration::from_millis(200), ..SessionOptions::default() };
    let world = world(HttpLimits::default(), options).await;
    let listed = GrantOptions { programs: Some(vec!["other".into()]), ..of("ann") };
    let (listed, listed_text) = key(&world, "listed", listed);
    let (slow, slow_text) = key(&world, "slow", of("ann"));
    world.front.set_keys(vec![listed, slow]);
    for wrong in ["sk-pie-listed-wrong", "sk-pie-none-secret", "x"] {
        let refused = connect(&world, wrong).await.err().unwrap();
        assert!(matches!(refused, ClientError::Key(_)), "{refused}");
    }
    let (_, answer) = Raw::handshake(world.address, "").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");

    let client = connect(&world, &listed_text).await.unwrap();
    let refused =
        |error: ClientError| assert_eq!(error.code(), Some(ErrorCode::ProgramNotAllowed), "{error}");
    refused(client.launch("test-programs", &words(&["hello"])).await.err().unwrap());
    refused(client.upload(&world.marked(1), |_, _| ()).await.unwrap_err());
    client.close().await;

    let client = connect(&world, &slow_text).await.unwrap();
    for _ in 0..2 {
        client.launch("test-programs", &words(&["hello"])).await.unwrap().outcome().await.unwrap().unwrap();
    }
    let late = client.launch("test-programs", &words(&["hello"])).await.err().unwrap();
    let ClientError::Refused(failure) = &late else { panic!("{late}") };
    assert!(
        failure.code == ErrorCode::RateLimited && failure.retry_after_ms.is_some_and(|ms| ms > 0),
        "{failure:?}"
    );
    // Without its key a session ends, and what runs in it.
    for gone in world.front.set_keys(Vec::new()) {
        world.runtime.revoke(&gone);
    }
    world
        .until("the session is over", async || matches!(client.list().await, Err(ClientError::Lost(_))))
        .await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_connection_and_a_user_has_so_many() {
    let limits = HttpLimits { connections_per_address: 4, ..HttpLimits::default() };
    let options =
        SessionOptions { user_sessions: 2, lease: Duration::from_millis(200), ..SessionOptions::default() };
    let world = world(limits, options).await;
    let (ann, ann_text) = key(&world, "ann", of("ann"));
    let (bob, bob_text) = key(&world, "bob", of("bob"));
    world.front.set_keys(vec![ann, bob]);
    let one = connect(&world, &ann_text).await.unwrap();
    let two = connect(&world, &ann_text).await.unwrap();
    let third = connect(&world, &ann_text).await.err().unwrap();
    assert_eq!(third.code(), Some(ErrorCode::LimitExceeded), "{third}");
    // One that was lost makes way.
    let head = format!("authorization: Bearer {bob_text}\r\n");
    let (lost, _) = Raw::session(world.address, &head, None).await;
    drop(lost);
    let mut bobs = Vec::new();
    while bobs.len() < 2 {
        match connect(&world, &bob_text).await {
            Ok(client) => bobs.push(client),
            // The server learns a little later that connections are gone.
            Err(error) => assert!(matches!(error, ClientError::Connect { .. }), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fifth = connect(&world, &bob_text).await.err().unwrap();
    assert!(matches!(fifth, ClientError::Connect { .. }), "the address has four connections: {fifth}");
    for client in bobs.into_iter().chain([one, two]) {
        client.close().await;
    }
    world.assert_clean().await;
}

/// The operator's, which no number of other sessions keeps out.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_within_the_process_needs_no_key_and_no_place() {
    let options = SessionOptions { user_sessions: 1, ..SessionOptions::default() };
    let world = world(HttpLimits::default(), options).await;
    let (ann, text) = key(&world, "ann", of("ann"));
    let (namesake, text_of_namesake) = key(&world, "namesake", of("local"));
    world.front.set_keys(vec![ann, namesake]);
    let ann = connect(&world, &text).await.unwrap();
    let open = async || Client::over(world.front.own_session().unwrap(), "test").await.unwrap();
    let (one, two) = (open().await, open().await);
    assert_eq!((one.user(), two.user()), ("local", "local"));
    let namesake = connect(&world, &text_of_namesake).await.unwrap();
    assert_eq!(
        connect(&world, &text_of_namesake).await.err().unwrap().code(),
        Some(ErrorCode::LimitExceeded)
    );
    let mut inferlet = one.launch("test-programs", &words(&["hello", "within"])).await.unwrap();
    assert_eq!(inferlet.outcome().await.unwrap().unwrap(), "hello within");
    assert!(one.stats().await.unwrap()["metrics"].is_array(), "it sees the whole server");
    let id = one.launch_detached("test-programs", &words(&["echo"])).await.unwrap();
    two.send(&id[..8], "one").await.unwrap();
    assert!(ann.list().await.unwrap().is_empty());
    assert_eq!(ann.send(&id, "two").await.unwrap_err().code(), Some(ErrorCode::UnknownInferlet));
    // What it has left goes on.
    one.close().await;
    assert_eq!(two.list().await.unwrap()[0].id, id);
    two.terminate(&id).await.unwrap();
    // A lost stream is the end: there is no address to come back to.
    two.interrupt();
    let lost = two.list().await.unwrap_err().to_string();
    assert_eq!(lost, "the session is over: the connection is lost, and there is no other");
    drop(namesake);
}
