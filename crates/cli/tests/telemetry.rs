//! Spans of requests, as a collector receives them: a small one here, which decodes what it is sent with OpenTelemetry's
//! own messages.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::text;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN: &str = "b7ad6b7169203331";

/// A request that a collector got: its head, and what it decodes to.
struct Export {
    head: String,
    body: ExportTraceServiceRequest,
}

/// A collector, and what it is sent.
fn collector() -> (String, mpsc::Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (exports, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let exports = exports.clone();
            std::thread::spawn(move || collect(stream.unwrap(), &exports));
        }
    });
    (address, received)
}

/// Takes the requests of one connection.
fn collect(stream: TcpStream, exports: &mpsc::Sender<Export>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_lowercase();
        let (_, length) = head.split_once("content-length: ").expect("a length");
        let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let body = ExportTraceServiceRequest::decode(&body[..]).expect("the request is an export");
        let answer = ExportTraceServiceResponse::default().encode_to_vec();
        let status = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf";
        write!(writer, "{status}\r\ncontent-length: {}\r\n\r\n", answer.len()).unwrap();
        writer.write_all(&answer).unwrap();
        // The test may have seen enough.
        let _ = exports.send(Export { head, body });
    }
}

struct Server {
    process: Child,
    address: String,
    said: BufReader<std::process::ChildStderr>,
}

impl Server {
    fn start(change: impl FnOnce(&mut Command)) -> Server {
        let home = common::tiny_home("telemetry");
        let mut command = common::pie(home, &["serve", "--no-auth", "--port", "0"]);
        command.env("OTEL_BSP_SCHEDULE_DELAY", "50").stderr(Stdio::piped());
        change(&mut command);
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let address = common::address_of(&mut said);
        Server { process, address, said }
    }

    /// Sends a request and reads its whole answer.
    fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, length) = (&self.address, body.len());
        let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}");
        write!(stream, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        text(&answer)
    }

    /// Tells it to stop; what it has said, once it has ended well.
    fn stop(mut self) -> String {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.process.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn values(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("no other kinds are sent: {other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), value(&pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All spans that were sent, and the attributes of the service.
fn spans(received: &mpsc::Receiver<Export>) -> (Vec<Span>, BTreeMap<String, String>, String) {
    let (mut spans, mut service, mut heads) = (Vec::new(), BTreeMap::new(), String::new());
    for Export { head, body } in received.try_iter() {
        heads += &head;
        for resource in body.resource_spans {
            service = values(&resource.resource.unwrap().attributes);
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    (spans, service, heads)
}

const COMPLETION: &str = r#"{"prompt": "Hello there, how are you?", "max_tokens": 4, "ignore_eos": true}"#;

#[test]
fn a_request_goes_on_with_its_clients_trace_and_says_what_it_took() {
    let (endpoint, received) = collector();
    let server = Server::start(|command| {
        command.args(["--model", "test-tiny"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).env("OTEL_SERVICE_NAME", "my-pie");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=secret");
    });
    let traceparent = format!("traceparent: 00-{TRACE}-{CLIENT_SPAN}-01\r\n");
    let answer = server.post("/v1/completions", &traceparent, COMPLETION);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let streamed = COMPLETION.replace('}', r#", "stream": true, "stream_options": {"include_usage": true}}"#);
    assert!(server.post("/v1/completions", "", &streamed).contains("[DONE]"));
    assert!(server.post("/v1/completions", "", "{}").starts_with("HTTP/1.1 4"));
    // What is left when it stops is sent before it ends.
    let said = server.stop();
    let (spans, service, heads) = spans(&received);
    assert_eq!(service["service.name"], "my-pie");
    assert!(heads.contains("post /v1/traces ") && heads.contains("x-collector-key: secret"), "{heads}");
    assert_eq!(spans.len(), 6, "a request and its inferlet, three times: {said}");
    let ours: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let [request, inferlet] = ["POST /v1/completions", "inferlet api-completions"]
        .map(|name| *ours.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{ours:?}")));
    assert_eq!(hex(&request.parent_span_id), CLIENT_SPAN);
    assert_eq!(inferlet.parent_span_id, request.span_id);
    assert!(request.start_time_unix_nano <= inferlet.start_time_unix_nano);
    assert!(request.start_time_unix_nano < request.end_time_unix_nano);
    let about = values(&request.attributes);
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let said: serde_json::Value =
        serde_json::from_str(&body[body.find('{').unwrap()..=body.rfind('}').unwrap()]).unwrap();
    for (attribute, expected) in [
        ("http.request.method", "POST".to_string()),
        ("http.route", "/v1/completions".to_string()),
        ("url.path", "/v1/completions".to_string()),
        ("http.response.status_code", "200".to_string()),
        ("user.name", "local".to_string()),
        ("gen_ai.operation.name", "text_completion".to_string()),
        ("gen_ai.request.model", "test-tiny".to_string()),
        ("gen_ai.usage.input_tokens", said["usage"]["prompt_tokens"].to_string()),
        ("gen_ai.usage.output_tokens", "4".to_string()),
    ] {
        assert_eq!(about.get(attribute), Some(&expected), "{attribute} of {about:?}");
    }
    assert!(!about.contains_key("error.type"), "{about:?}");
    let of_inferlet = values(&inferlet.attributes);
    assert_eq!(of_inferlet["pie.program"], "api-completions");
    assert_eq!(of_inferlet["pie.inferlet.id"].len(), 36);
    for count in ["pie.passes", "pie.tokens.computed", "pie.tokens.cached"] {
        assert_eq!(of_inferlet[count], about[count], "the request has one inferlet");
    }
    let count = |name: &str| about[name].parse::<u64>().unwrap();
    // The last token drawn is in no pass.
    let rows = count("gen_ai.usage.input_tokens") + count("gen_ai.usage.output_tokens") - 1;
    assert_eq!(count("pie.tokens.computed") + count("pie.tokens.cached"), rows);
    assert_eq!(count("pie.passes"), 4);
    // The others began traces of their own; a stream says its usage too, and a wrong request is the client's mistake.
    let others: Vec<_> =
        spans.iter().filter(|span| hex(&span.trace_id) != TRACE && span.kind == request.kind).collect();
    let mut statuses: Vec<_> = others.iter().map(|span| values(&span.attributes)).collect();
    statuses.sort_by_key(|about| about["http.response.status_code"].clone());
    assert_eq!(statuses[0]["gen_ai.usage.output_tokens"], "4");
    assert!(
        statuses[1]["http.response.status_code"].starts_with('4') && !statuses[1].contains_key("error.type")
    );
    assert!(
        others[0].trace_id != others[1].trace_id && others.iter().all(|span| span.parent_span_id.is_empty())
    );
}

#[test]
fn the_config_names_a_collector_and_a_client_that_leaves_is_told() {
    let (endpoint, received) = collector();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pie.toml");
    let text = format!("[telemetry]\notlp_endpoint = '{endpoint}'\n[[backend]]\nmodel = 'test-tiny'\n");
    std::fs::write(&config, text).unwrap();
    let server = Server::start(|command| {
        command.args(["--config", config.to_str().unwrap()]);
    });
    let body = r#"{"prompt": "Hello", "max_tokens": 2000, "ignore_eos": true, "stream": true}"#;
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    drop(stream);
    server.stop();
    let (spans, service, _) = spans(&received);
    assert_eq!(service["service.name"], "pie");
    let request = spans.iter().find(|span| span.name == "POST /v1/completions").expect("a span");
    assert_eq!(values(&request.attributes)["error.type"], "client_left");
}

#[test]
fn a_collector_that_is_down_or_silent_delays_no_request_and_what_is_lost_is_said() {
    // One that refuses connections, and one that takes them and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in ["http://127.0.0.1:9", &silent] {
        let server = Server::start(|command| {
            command.args(["--model", "test-tiny"]);
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        });
        let start = Instant::now();
        for _ in 0..20 {
            assert!(server.post("/v1/completions", "", COMPLETION).starts_with("HTTP/1.1 200 "));
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{endpoint}: {:?}", start.elapsed());
        let said = server.stop();
        assert!(
            said.contains("spans did not reach the collector") && said.contains("40"),
            "{endpoint}: {said}"
        );
    }
}
