//! TLS: certificates that are trusted and such that are not.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bench::client::api::Api;
use bench::client::{ClientOptions, fetch};
use bench::mock::{Mock, Script};
use bench::record::{ErrorClass, Record};
use bench::workload::Limit;
use common::{mock, plan, run, samples};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// A mock server behind TLS, with a certificate of its own for a name.
struct Behind {
    mock: Mock,
    port: u16,
    pem: String,
    // Its listener ends with it.
    _runtime: tokio::runtime::Runtime,
}

fn behind_tls(name: &str) -> Behind {
    let mock =
        mock(Script { ttft: Duration::from_millis(5), gap: Duration::from_millis(1), ..Script::default() });
    let made = rcgen::generate_simple_self_signed([name.to_string()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate with its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let (port, address) = (listener.local_addr().expect("an address").port(), mock.address());
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate leaves here.
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let Ok(mut outside) = tokio::net::TcpStream::connect(address).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    Behind { mock, port, pem: made.cert.pem(), _runtime: runtime }
}

impl Behind {
    fn options(&self) -> ClientOptions {
        let address = format!("https://localhost:{}", self.port).parse().expect("an address");
        let mut options = ClientOptions::new(address, Api::COMPLETIONS);
        options.model = Some("mock".into());
        options
    }
}

fn classes(records: &[Record]) -> Vec<ErrorClass> {
    records.iter().filter_map(|record| record.failure()).map(|failure| failure.class).collect()
}

#[test]
fn a_certificate_that_is_named_is_trusted() {
    let (server, folder) = (behind_tls("localhost"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &server.pem).expect("a file");
    let mut options = server.options();
    options.ca_file = Some(path);
    let models = fetch(&options, "GET", "/v1/models", None, Duration::from_secs(60)).expect("an answer");
    assert_eq!(models.status, 200);
    let done = run(plan(samples(6, 8), "closed:2", Limit::NONE), options);
    assert_eq!(classes(&done.records), []);
    assert!(done.records.iter().all(|record| record.completed() && record.output_tokens() == 8));
    assert_eq!(server.mock.log().served().len(), 6);
}

#[test]
fn a_stranger_is_refused_unless_the_user_insists() {
    let (server, other) = (behind_tls("localhost"), behind_tls("localhost"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &other.pem).expect("a file");
    let options = ClientOptions { ca_file: Some(path), ..server.options() };
    let done = run(plan(samples(3, 8), "instant", Limit::NONE), options);
    assert_eq!(classes(&done.records), [ErrorClass::Tls; 3]);
    assert!(server.mock.log().served().is_empty(), "nothing was sent to it");
    let options = ClientOptions { insecure: true, ..server.options() };
    let done = run(plan(samples(3, 8), "instant", Limit::NONE), options);
    assert!(done.records.iter().all(Record::completed));
}

#[test]
fn a_trusted_certificate_of_another_name_is_refused() {
    let (server, folder) = (behind_tls("other.example"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &server.pem).expect("a file");
    let mut options = server.options();
    options.ca_file = Some(path);
    let done = run(plan(samples(2, 8), "instant", Limit::NONE), options);
    assert_eq!(classes(&done.records), [ErrorClass::Tls; 2]);
}

#[test]
fn what_is_no_certificate_is_said_before_anything_is_sent() {
    let (server, folder) = (behind_tls("localhost"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("a file");
    let mut options = server.options();
    options.ca_file = Some(path);
    let failure = fetch(&options, "GET", "/health", None, Duration::from_secs(60)).expect_err("no answer");
    assert_eq!(failure.class, ErrorClass::Tls);
    assert!(failure.message.contains("expected certificates in PEM"), "{}", failure.message);
}
