//! TLS: a certificate and its key, from files that may change while the server runs.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The files of a certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, without a passphrase.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM of what it should have.
    #[error("`{path}`: {reason}; expected {expected}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
        /// What it should have.
        expected: &'static str,
    },
    /// The two do not belong together, or are of a kind that is not supported.
    #[error("the certificate `{certificate}` with the key `{key}`: {reason}", certificate = files.certificate.display(),
        key = files.key.display())]
    Pair {
        /// The files.
        files: TlsFiles,
        /// What is wrong.
        reason: String,
    },
}

/// What connections are encrypted with.
pub(crate) struct Tls {
    files: TlsFiles,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    pub(crate) fn open(files: TlsFiles) -> Result<Tls, TlsError> {
        let acceptor = RwLock::new(acceptor(&files)?);
        Ok(Tls { files, acceptor })
    }

    /// Reads the files again, for connections from now on. What cannot be used changes nothing.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let next = acceptor(&self.files)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let file = |path: &PathBuf, expected| {
        let path = path.clone();
        move |error: rustls::pki_types::pem::Error| TlsError::File {
            path,
            reason: error.to_string(),
            expected,
        }
    };
    let of_certificate = || file(&files.certificate, "certificates in PEM");
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(of_certificate())?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(of_certificate())?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(file(&files.key, "a private key in PEM"))?;
    let pair = |error: rustls::Error| TlsError::Pair { files: files.clone(), reason: error.to_string() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        config.map_err(pair)?.with_no_client_auth().with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
