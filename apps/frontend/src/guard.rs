//! What holds for every page: which requests are let in, and what a browser may do with the answer.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::pages;

/// Nothing but our own files, and no script or style inside a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Set where the answer does not say otherwise. `same-origin`: with `no-referrer` a browser's Origin would be `null`.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The middleware around all routes.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let mut response = if may(request.method(), request.headers()) {
        next.run(request).await
    } else {
        let words =
            "This form was sent from another site, so nothing was done. Please go back to the start and try again.";
        pages::problem(StatusCode::FORBIDDEN, words).into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether the request may change something: it may not if a browser sends it for another site. Beside the cookie's
/// SameSite this also covers other ports and sister domains, and signing in as somebody else.
fn may(method: &Method, headers: &HeaderMap) -> bool {
    if matches!(*method, Method::GET | Method::HEAD) {
        return true;
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match (text(HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        // Over plain HTTP browsers leave Sec-Fetch-Site out, but never the Origin of a form.
        (None, Some(origin)) => {
            let sender = origin.split_once("://").map(|(_, host)| host);
            sender.is_some() && sender == text(header::HOST)
        }
        // No browser: nobody's cookie can be abused.
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_may_change_something() {
        let table = [
            // Sec-Fetch-Site, Origin, let in
            (None, None, true),
            (None, Some("http://todo.local:30300"), true),
            (None, Some("https://todo.local:30300"), true), // behind somebody who ends TLS
            (None, Some("http://todo.local"), false),
            (None, Some("http://todo.local:1234"), false),
            (None, Some("http://evil.example"), false),
            (None, Some("http://todo.local:30300.evil.example"), false),
            (None, Some("null"), false),
            (None, Some(""), false),
            (Some("same-origin"), Some("http://todo.local:30300"), true),
            (Some("none"), None, true),
            (Some("same-site"), Some("http://todo.local:30300"), false),
            (Some("cross-site"), None, false),
            (Some("cross-site"), Some("http://todo.local:30300"), false),
        ];
        for (site, origin, let_in) in table {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("todo.local:30300"));
            site.map(|site| headers.insert("sec-fetch-site", HeaderValue::from_static(site)));
            origin.map(|origin| headers.insert("origin", HeaderValue::from_static(origin)));
            assert_eq!(may(&Method::POST, &headers), let_in, "{site:?} {origin:?}");
            assert_eq!(may(&Method::DELETE, &headers), let_in, "{site:?} {origin:?}");
            assert!(may(&Method::GET, &headers), "links may come from anywhere");
        }
    }
}
