//! What the forms of the tasks do.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Failure, deleted,
    extract::{Form, Path},
    home::{self, Mishap},
    page, status,
    view::View,
};
use crate::{
    App,
    backend::{Error, Id},
    session::SignedIn,
    words,
};

/// What was typed.
#[derive(Deserialize)]
pub(crate) struct Typed {
    #[serde(default)]
    title: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
pub(crate) struct Completed {
    completed: bool,
}

#[derive(Template)]
#[template(path = "task.html")]
struct Edit<'a> {
    id: &'a Id,
    view: &'a View,
    title: &'a str,
    description: &'a str,
    error: &'a str,
}

pub(crate) async fn add(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Query(view): Query<View>,
    Form(typed): Form<Typed>,
) -> Result<Response, Failure> {
    let description = Some(typed.description.trim()).filter(|text| !text.is_empty());
    match app.backend.add_task(&token, typed.title.trim(), description).await {
        // There, the next one can be typed at once.
        Ok(_) => Ok(view.page("new-task").into_response()),
        Err(error) if typing_mistake(&error) => {
            let mishap = Mishap { task_error: words::of(&error), title: typed.title, ..Mishap::default() };
            home::render(&app, &token, view, status(&error), mishap).await
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn complete(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Path(id): Path<Id>,
    Query(view): Query<View>,
    Form(typed): Form<Completed>,
) -> Result<Redirect, Failure> {
    app.backend.change_task(&token, &id, &json!({ "completed": typed.completed })).await?;
    Ok(view.page(&format!("tick-{id}")))
}

pub(crate) async fn delete(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Path(id): Path<Id>,
    Query(view): Query<View>,
) -> Result<Redirect, Failure> {
    deleted(app.backend.delete_task(&token, &id).await, view.page("tasks-title"))
}

pub(crate) async fn edit_page(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Path(id): Path<Id>,
    Query(view): Query<View>,
) -> Result<Response, Failure> {
    let task = app.backend.task(&token, &id).await?;
    let description = task.description.as_deref().unwrap_or_default();
    Ok(page(StatusCode::OK, &Edit { id: &id, view: &view, title: &task.title, description, error: "" }))
}

pub(crate) async fn edit(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Path(id): Path<Id>,
    Query(view): Query<View>,
    Form(Typed { title, description }): Form<Typed>,
) -> Result<Response, Failure> {
    // A browser sends line ends as in e-mail.
    let description = description.replace("\r\n", "\n");
    let change = json!({ "title": title.trim(), "description": description.trim() });
    match app.backend.change_task(&token, &id, &change).await {
        Ok(_) => Ok(view.page("tasks-title").into_response()),
        Err(error) if typing_mistake(&error) => {
            let words = words::of(&error);
            let form = Edit { id: &id, view: &view, title: &title, description: &description, error: &words };
            Ok(page(status(&error), &form))
        }
        Err(error) => Err(error.into()),
    }
}

fn typing_mistake(error: &Error) -> bool {
    matches!(error, Error::Refused { status: 400 | 413 | 422, .. })
}
