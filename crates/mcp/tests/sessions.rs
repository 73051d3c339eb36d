//! Sessions with a server that is a process: `server.sh`, which does what each test needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcp::{Content, Error, Limits, Media, Server, ServerConfig, Servers, Transport};
use serde_json::{Map, Value, json};

/// A server, and the file that it writes to what happens to it.
struct World {
    servers: Servers,
    server: Arc<Server>,
    folder: tempfile::TempDir,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server.sh")
}

fn config(command: Vec<String>) -> ServerConfig {
    let transport = Transport::Stdio { command, environment: Vec::new() };
    ServerConfig { name: "test".into(), transport, tools: None, users: None, limits: Limits::default() }
}

impl World {
    fn new(change: impl FnOnce(&mut ServerConfig)) -> World {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(vec![script().display().to_string()]);
        let log = folder.path().join("log").display().to_string();
        let path = ("PATH".to_string(), std::env::var("PATH").unwrap());
        let environment = vec![path, ("LOG".to_string(), log), ("SECRET".to_string(), "given".to_string())];
        config.transport = Transport::Stdio { command: vec![script().display().to_string()], environment };
        change(&mut config);
        let servers = Servers::new(vec![config]);
        let server = servers.of("anybody").next().unwrap().clone();
        World { servers, server, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the log has a line so often.
    async fn noted(&self, line: &str, times: usize) {
        for _ in 0..1000 {
            if self.log().lines().filter(|noted| noted.starts_with(line)).count() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("`{line}` is not noted {times} times: {}", self.log());
    }

    async fn call(&self, tool: &str) -> Result<mcp::Outcome, Error> {
        self.server.call("anybody", tool, Map::new()).await
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let world = World::new(|_| {});
    let tools = world.server.tools("anybody").await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["echo", "fail", "slow"], "of both pages");
    assert_eq!(tools[0].description.as_deref(), Some("gives back its arguments"));
    assert_eq!(tools[0].input_schema, r#"{"type":"object"}"#);
    let outcome = world.server.call("anybody", "echo", object(json!({ "a": [1, "{}"] }))).await.unwrap();
    assert_eq!(outcome.content, [Content::Text("echo".into())]);
    assert_eq!(outcome.structured.as_deref(), Some(r#"{"a":[1,"{}"]}"#));
    let media = world.call("media").await.unwrap().content;
    let image = Media { mime_type: "image/png".into(), data: "aGk=".into() };
    assert_eq!(media[0], Content::Image(image));
    assert!(matches!(&media[1], Content::Resource(json) if json.contains("a://b")), "{media:?}");
    world.servers.close().await;
    assert_eq!(world.log().matches("begins").count(), 1, "one session for all: {}", world.log());
}

#[tokio::test]
async fn failures_are_told_apart() {
    let world = World::new(|config| config.limits.result_bytes = 100_000);
    assert!(world.call("fail").await.unwrap().is_error, "one that the tool tells of");
    let refused = world.call("none").await;
    assert!(
        matches!(&refused, Err(Error::Refused { reason, .. }) if reason == "no such tool"),
        "{refused:?}"
    );
    let failed = world.call("broken").await;
    assert!(
        matches!(&failed, Err(Error::Failed { reason, .. }) if reason == "something is broken"),
        "{failed:?}"
    );
    let nonsense = world.call("nonsense").await;
    assert!(matches!(&nonsense, Err(Error::Failed { .. })), "{nonsense:?}");
    assert!(world.call("echo").await.is_ok(), "the session goes on");
}

#[tokio::test]
async fn what_the_operator_does_not_allow_is_not_there() {
    let world = World::new(|config| {
        config.tools = Some(vec!["echo".into()]);
        config.users = Some(vec!["ann".into(), "anybody".into()]);
    });
    assert_eq!(world.server.tools("anybody").await.unwrap().len(), 1);
    assert!(matches!(world.call("fail").await, Err(Error::NotAllowed { .. })));
    assert!(world.call("echo").await.is_ok());
    assert_eq!((world.servers.of("ann").count(), world.servers.of("bob").count()), (1, 0));
}

#[tokio::test]
async fn results_and_lists_are_bounded() {
    let world = World::new(|config| config.limits.result_bytes = 999_999);
    let large = world.call("large").await;
    let found = matches!(large, Err(Error::TooLarge { found: 1_000_000, limit: 999_999, .. }));
    assert!(found, "{:?}", large.map(|outcome| outcome.content.len()));
    // Not even read to its end, and told at once.
    let world = World::new(|config| config.limits.result_bytes = 1000);
    let large = tokio::time::timeout(Duration::from_secs(30), world.call("large"))
        .await
        .expect("no timeout tells it");
    let is_told = matches!(large, Err(Error::TooLong { limit: 71_536, result_bytes: 1000, .. }));
    assert!(is_told, "{:?}", large.map(|outcome| outcome.content.len()));
    assert!(world.call("echo").await.is_ok(), "the session goes on");
    let world = World::new(|config| config.limits.tools = 2);
    let tools = world.server.tools("anybody").await;
    assert!(matches!(tools, Err(Error::TooLarge { found: 3, limit: 2, .. })), "{tools:?}");
}

#[tokio::test]
async fn a_user_has_so_many_calls_under_way_and_takes_none_from_others() {
    let world = World::new(|config| config.limits.user_calls = 2);
    let call = |user: &'static str, tool: &'static str| Box::pin(world.server.call(user, tool, Map::new()));
    let (mut first, mut second) = (call("ann", "slow"), call("ann", "slow"));
    tokio::select! {
        answer = &mut first => panic!("it never answers: {answer:?}"),
        answer = &mut second => panic!("it never answers: {answer:?}"),
        () = world.noted("slow", 2) => {}
    }
    let mut third = call("ann", "echo");
    for _ in 0..3 {
        tokio::select! {
            biased;
            answer = &mut third => panic!("it has no place: {answer:?}"),
            answer = call("bob", "echo") => assert!(answer.is_ok(), "{answer:?}"),
        }
    }
    // A place comes back with a call that is given up.
    drop(first);
    assert!(third.await.is_ok());
    drop(second);

    let world = World::new(|config| {
        config.limits.user_calls = 1;
        config.limits.time = Duration::from_millis(500);
    });
    let late = world.server.call("ann", "slow", Map::new());
    let busy = async {
        world.noted("slow", 1).await;
        // Its patience begins later, so the place comes back within it.
        world.server.call("ann", "echo", Map::new()).await
    };
    let (late, busy) = tokio::join!(late, busy);
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    assert!(busy.is_ok(), "{busy:?}");
}

#[tokio::test]
async fn a_call_that_is_late_or_given_up_is_cancelled_at_the_server() {
    let world = World::new(|config| config.limits.time = Duration::from_millis(500));
    let late = world.call("slow").await;
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    world.noted("cancelled", 1).await;
    let mut given_up = Box::pin(world.call("slow"));
    tokio::select! {
        answer = &mut given_up => panic!("it never answers: {answer:?}"),
        () = world.noted("slow", 2) => {}
    }
    drop(given_up);
    world.noted("cancelled", 2).await;
    assert!(world.call("echo").await.is_ok(), "the session goes on");
}

#[tokio::test]
async fn a_server_that_dies_is_started_again() {
    let world = World::new(|_| {});
    for times in 1..4 {
        let broken = world.call("die").await;
        assert!(matches!(broken, Err(Error::Broken { .. })), "{broken:?}");
        assert!(world.call("echo").await.is_ok());
        world.noted("begins", times + 1).await;
    }
}

#[tokio::test]
async fn a_process_has_no_more_of_the_environment_than_it_is_given() {
    let world = World::new(|_| {});
    let outcome = world.call("environment").await.unwrap();
    assert_eq!(outcome.content, [Content::Text("given,".into())], "no home");
}

#[tokio::test]
async fn what_does_not_start_is_unreachable() {
    for command in [vec!["/no/such/program"], vec!["false"], vec!["echo", "no protocol"]] {
        let command: Vec<String> = command.into_iter().map(String::from).collect();
        let mut config = config(command.clone());
        config.limits.time = Duration::from_secs(5);
        let servers = Servers::new(vec![config]);
        let server = servers.of("anybody").next().unwrap();
        let answer = server.tools("anybody").await;
        assert!(matches!(answer, Err(Error::Unreachable { .. })), "{command:?}: {answer:?}");
    }
    let transport = Transport::Http { url: "http://127.0.0.1:9/mcp".into(), headers: Vec::new() };
    let servers = Servers::new(vec![ServerConfig { transport, ..config(Vec::new()) }]);
    let answer = servers.of("anybody").next().unwrap().tools("anybody").await;
    assert!(matches!(answer, Err(Error::Unreachable { .. })), "{answer:?}");
}

#[tokio::test]
async fn processes_end_with_their_session_also_those_that_do_not_listen() {
    for command in ["exec \"$0\"", "trap '' TERM; sleep 1000 & \"$0\"; sleep 1000"] {
        let world = World::new(|config| {
            let Transport::Stdio { command: words, .. } = &mut config.transport else { unreachable!() };
            *words = vec!["sh".into(), "-c".into(), command.into(), script().display().to_string()];
        });
        assert!(world.call("echo").await.is_ok(), "{command}");
        let log = world.log();
        let id: i32 =
            log.lines().next().and_then(|line| line.strip_prefix("begins ")).unwrap().parse().unwrap();
        let runs = || Path::new(&format!("/proc/{id}")).exists();
        assert!(runs(), "{command}");
        tokio::time::timeout(Duration::from_secs(5), world.servers.close()).await.expect("it ends soon");
        for _ in 0..200 {
            if !runs() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!runs(), "{command}");
    }
}
