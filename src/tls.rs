//! TLS from the configuration's PEM files: who this process is, and whom it trusts.
//!
//! TLS 1.2 and 1.3 with rustls' safe defaults, cryptography by ring. Not here: connections (`server`, `upstream`).

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::config::{Identity, Pem, Settings, Upstream};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the configuration is no good.
    #[error("{key}: {path}: {reason}")]
    File {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate and its key cannot be used together.
    #[error("{key}: the certificate and the key cannot be used: {source}; is it the certificate's own key?")]
    Identity {
        /// The configuration key.
        key: &'static str,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The system has no certificate authorities.
    #[error("no certificate authorities found on this system; name a PEM file in `upstreams[].ca`")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The cryptography in use.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What clients of `listen.tls` meet.
///
/// # Errors
/// The files hold no certificates, no key, or do not fit each other.
pub fn server(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    const KEY: &str = "listen.tls";
    let (certificates, key) = pair(KEY, identity)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|source| TlsError::Identity { key: KEY, source })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How this process meets an upstream.
///
/// # Errors
/// As [`server`]; or there is nobody to trust.
pub fn client(upstream: &Upstream) -> Result<ClientConfig, TlsError> {
    const KEY: &str = "upstreams[].client_cert";
    let https = upstream.endpoints.iter().any(|endpoint| endpoint.scheme.as_str() == "https");
    let roots = if https { roots(upstream.ca.as_ref())? } else { RootCertStore::empty() };
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some(identity) = &upstream.client_cert else { return Ok(client.with_no_client_auth()) };
    let (certificates, key) = pair(KEY, identity)?;
    client.with_client_auth_cert(certificates, key).map_err(|source| TlsError::Identity { key: KEY, source })
}

/// How this process meets a server to which it is nobody in particular. `https`: the system's authorities are needed.
///
/// # Errors
/// There is nobody to trust.
pub fn plain_client(https: bool) -> Result<ClientConfig, TlsError> {
    let roots = if https { roots(None)? } else { RootCertStore::empty() };
    let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(client.with_root_certificates(roots).with_no_client_auth())
}

/// Says whether every PEM file that `settings` name can be used.
///
/// # Errors
/// The first that cannot.
pub fn check(settings: &Settings) -> Result<(), TlsError> {
    settings.listen.tls.as_ref().map(server).transpose()?;
    for upstream in settings.upstreams.iter().filter(|one| one.ca.is_some() || one.client_cert.is_some()) {
        client(upstream)?;
    }
    Ok(())
}

/// A certificate with its chain, and its key. `key`: whom to blame.
fn pair(
    key: &'static str,
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let private = PrivateKeyDer::from_pem_slice(identity.key.text.as_bytes())
        .map_err(|error| refused(key, &identity.key, error.to_string()))?;
    Ok((certificates(key, &identity.cert)?, private))
}

/// Certificate authorities: those in the file, or the system's.
fn roots(ca: Option<&Pem>) -> Result<RootCertStore, TlsError> {
    const KEY: &str = "upstreams[].ca";
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) };
    };
    for certificate in certificates(KEY, ca)? {
        roots.add(certificate).map_err(|error| refused(KEY, ca, error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| refused(key, pem, error.to_string()))?;
    if certificates.is_empty() {
        return Err(refused(key, pem, "no certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn refused(key: &'static str, pem: &Pem, reason: String) -> TlsError {
    TlsError::File { key, path: pem.path.display().to_string(), reason }
}
