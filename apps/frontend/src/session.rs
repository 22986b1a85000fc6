//! Who somebody is: the backend's token in a cookie that no script can read.

use axum::{
    Extension,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, Method, header, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};
use chrono::{DateTime, Utc};
use cookie::{Cookie, CookieBuilder, SameSite, time::Duration};

use crate::{
    App,
    backend::{Session, Token},
};

/// A request of somebody who has signed in, as far as the cookie says; the backend has the last word.
pub(crate) struct SignedIn(pub Token);

impl FromRequestParts<App> for SignedIn {
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Redirect> {
        let cookies = parts.headers.get_all(header::COOKIE).into_iter().filter_map(|cookies| cookies.to_str().ok());
        let token = cookies
            .flat_map(Cookie::split_parse)
            .filter_map(Result::ok)
            .find(|cookie| cookie.name() == &*app.cookie)
            .and_then(|cookie| Token::try_from(cookie.value().to_owned()).ok());
        // Whoever sends a form was signed in when they opened it: the browser has dropped the cookie since.
        let else_to = if parts.method == Method::GET { "/signin" } else { "/signin?notice=expired" };
        token.map(Self).ok_or_else(|| Redirect::to(else_to))
    }
}

/// A header of an answer.
pub(crate) type Header = [(HeaderName, String); 1];

/// Begins a session. The browser keeps the cookie as long as the token is good, and if it came by https, it sends it back
/// over https alone.
pub(crate) fn begin(name: &str, session: &Session, https: bool, now: DateTime<Utc>) -> Header {
    let left = (session.expires_at - now).num_seconds().max(0);
    set(cookie(name, session.token.reveal().to_owned()).max_age(Duration::seconds(left)).secure(https))
}

/// Part of an answer that makes the browser forget the session.
#[derive(Clone, Copy)]
pub(crate) struct Ended;

/// Makes the browser forget the session. Whoever writes such an answer need not know the cookie's name: [`forget`] does.
pub(crate) fn end() -> Extension<Ended> {
    Extension(Ended)
}

/// The middleware that [`end`] speaks to.
pub(crate) async fn forget(State(app): State<App>, response: Response) -> Response {
    if response.extensions().get::<Ended>().is_none() {
        return response;
    }
    (set(cookie(&app.cookie, String::new()).max_age(Duration::ZERO)), response).into_response()
}

fn cookie(name: &str, value: String) -> CookieBuilder<'_> {
    Cookie::build((name, value)).path("/").http_only(true).same_site(SameSite::Lax)
}

fn set(cookie: CookieBuilder<'_>) -> Header {
    [(header::SET_COOKIE, cookie.build().to_string())]
}

/// Whether the browser came by https: this server speaks plain HTTP, whoever stands before it says so.
pub(crate) fn by_https(headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok()).unwrap_or_default();
    proto.split(',').next().is_some_and(|first| first.trim().eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use axum::http::header::HeaderValue;

    use super::*;

    fn begun(https: bool) -> String {
        let expires_at = DateTime::from_timestamp(1_000_600, 0).unwrap();
        let session = Session { token: Token::try_from("a.b.c".to_owned()).unwrap(), expires_at };
        let [(_, cookie)] = begin("session", &session, https, DateTime::from_timestamp(1_000_000, 0).unwrap());
        cookie
    }

    #[test]
    fn the_cookie_lasts_as_long_as_the_token_and_is_out_of_reach() {
        assert_eq!(begun(false), "session=a.b.c; HttpOnly; SameSite=Lax; Path=/; Max-Age=600");
        assert_eq!(begun(true), "session=a.b.c; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600");
    }

    #[test]
    fn https_is_what_the_nearest_to_the_browser_said() {
        for (header, https) in
            [(None, false), (Some("http"), false), (Some("https"), true), (Some("HTTPS, http"), true)]
        {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-forwarded-proto", HeaderValue::from_static(header));
            }
            assert_eq!(by_https(&headers), https, "{header:?}");
        }
    }
}
