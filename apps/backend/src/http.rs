//! The HTTP client: rustls with Mozilla's certificate authorities, which are compiled in, as the image has no files.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// A client for the model and the MCP server. It follows no redirect: a key or token goes where it was meant for.
pub fn client() -> anyhow::Result<reqwest::Client> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS can't be set up")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        // Before the MCP server ends a connection that nobody uses.
        .pool_idle_timeout(Duration::from_secs(15))
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("the HTTP client can't be set up")
}
