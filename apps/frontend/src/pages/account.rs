//! Sign up, sign in, sign out.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;

use super::{extract::Form, log, page, status};
use crate::{
    App,
    backend::{Error, Session},
    session, words,
};

/// What the pages know of; said above the form.
#[derive(Default, Deserialize)]
pub(crate) struct Notice {
    #[serde(default)]
    notice: String,
}

/// What was typed.
#[derive(Default, Deserialize)]
pub(crate) struct Typed {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    name: String,
}

/// Both pages: they differ in a field and in words. The password is never sent back.
#[derive(Template)]
#[template(path = "account.html")]
struct Account<'a> {
    new: bool,
    notice: &'a str,
    error: &'a str,
    email: &'a str,
    name: &'a str,
}

pub(crate) async fn sign_up_page() -> Response {
    form(true, StatusCode::OK, "", "", &Typed::default())
}

pub(crate) async fn sign_in_page(Query(notice): Query<Notice>) -> Response {
    let notice = match notice.notice.as_str() {
        "expired" => words::EXPIRED,
        "signed-out" => "You have signed out.",
        _ => "",
    };
    form(false, StatusCode::OK, notice, "", &Typed::default())
}

pub(crate) async fn sign_up(State(app): State<App>, headers: HeaderMap, Form(typed): Form<Typed>) -> Response {
    let name = Some(typed.name.trim()).filter(|name| !name.is_empty());
    match app.backend.sign_up(typed.email.trim(), &typed.password, name).await {
        Ok(session) => begin(&app, &session, &headers),
        Err(error) => refused(true, &error, &typed),
    }
}

pub(crate) async fn sign_in(State(app): State<App>, headers: HeaderMap, Form(typed): Form<Typed>) -> Response {
    match app.backend.sign_in(typed.email.trim(), &typed.password).await {
        Ok(session) => begin(&app, &session, &headers),
        Err(error) => refused(false, &error, &typed),
    }
}

pub(crate) async fn sign_out() -> Response {
    (session::end(), Redirect::to("/signin?notice=signed-out")).into_response()
}

fn begin(app: &App, session: &Session, headers: &HeaderMap) -> Response {
    let cookie = session::begin(&app.cookie, session, session::by_https(headers), chrono::Utc::now());
    (cookie, Redirect::to("/")).into_response()
}

fn refused(new: bool, error: &Error, typed: &Typed) -> Response {
    log(error);
    let words = if error.expired() {
        "E-mail address and password do not belong together. Please check both.".to_owned()
    } else {
        words::of(error)
    };
    form(new, status(error), "", &words, typed)
}

fn form(new: bool, status: StatusCode, notice: &str, error: &str, typed: &Typed) -> Response {
    page(status, &Account { new, notice, error, email: &typed.email, name: &typed.name })
}
