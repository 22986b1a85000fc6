//! A frontend before a stand-in of the backend, and somebody who looks at it.

use std::sync::Arc;

use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect::Policy};
use todo_frontend::{App, backend::Backend, web};
use tokio::{net::TcpListener, sync::watch};

use crate::stand_in::StandIn;

pub const EMAIL: &str = "ada@example.org";
pub const PASSWORD: &str = "canary of Ada's";

pub struct Scene {
    pub backend: StandIn,
    pub url: String,
    pub close: watch::Sender<bool>,
    http: Client,
    pub cookie: Option<String>,
}

/// What came back.
pub struct Page {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Page {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    #[track_caller]
    pub fn has(&self, text: &str) -> &Self {
        assert!(self.text.contains(text), "{text:?} is not in {} {}", self.status, self.text);
        self
    }

    #[track_caller]
    pub fn has_not(&self, text: &str) -> &Self {
        assert!(!self.text.contains(text), "{text:?} is in {}", self.text);
        self
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn leads_to(&self, address: &str) -> &Self {
        assert_eq!((self.status.as_u16(), self.header("location")), (303, address), "{}", self.text);
        self
    }
}

impl Scene {
    pub async fn start() -> Self {
        let backend = StandIn::start().await;
        let url = backend.url.clone();
        Self::before(backend, &url).await
    }

    /// A frontend that looks for its backend at `url`.
    pub async fn before(backend: StandIn, url: &str) -> Self {
        Self::named(backend, url, "session").await
    }

    /// One whose cookie has this name.
    pub async fn named(backend: StandIn, url: &str, cookie: &str) -> Self {
        let (close, closing) = watch::channel(false);
        let app = App { backend: Backend::new(Url::parse(url).unwrap()).unwrap(), cookie: cookie.into(), closing };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, web::router(app)).await });
        Self { backend, url, close, http: client(), cookie: None }
    }

    /// Ada has an account and is signed in.
    pub async fn signed_in() -> Self {
        let mut scene = Self::start().await;
        scene.sign_up(EMAIL).await;
        scene
    }

    pub async fn sign_up(&mut self, email: &str) -> Page {
        let page = self.post("/signup", &[("email", email), ("password", PASSWORD), ("name", "Ada")]).await;
        page.leads_to("/");
        self.cookie = page.header("set-cookie").split(';').next().map(str::to_owned);
        page
    }

    pub fn ask(&self, request: impl FnOnce(&Client, String) -> RequestBuilder, path: &str) -> RequestBuilder {
        let request = request(&self.http, format!("{}{path}", self.url));
        match &self.cookie {
            Some(cookie) => request.header("cookie", cookie),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Page {
        page(self.ask(Client::get, path)).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Page {
        page(self.ask(Client::post, path).header("origin", &self.url).form(form)).await
    }
}

pub async fn page(request: RequestBuilder) -> Page {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Page { status, headers, text: response.text().await.unwrap() }
}

pub fn client() -> Client {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Client::builder().tls_backend_preconfigured(tls).no_proxy().redirect(Policy::none()).build().unwrap()
}
