//! Which address leads where.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use serde_json::{Value, json};
use tower_http::timeout::RequestBodyDeadlineLayer;

use crate::{
    App, guard,
    pages::{self, account, assets, chat, home, tasks},
    session,
};

/// Everything this server answers.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/", get(home::show))
        .route("/signup", get(account::sign_up_page).post(account::sign_up))
        .route("/signin", get(account::sign_in_page).post(account::sign_in))
        .route("/signout", post(account::sign_out))
        .route("/tasks", post(tasks::add))
        .route("/tasks/{id}", get(tasks::edit_page).post(tasks::edit))
        .route("/tasks/{id}/completed", post(tasks::complete))
        .route("/tasks/{id}/delete", post(tasks::delete))
        .route("/chat", post(chat::say))
        .route("/conversations/{id}/delete", post(chat::delete))
        .route("/static/{name}", get(assets::asset))
        .route("/health", get(health))
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::not_found)
        .layer(DefaultBodyLimit::max(64 << 10))
        .layer(RequestBodyDeadlineLayer::new(Duration::from_secs(10)))
        .layer(middleware::map_response_with_state(app.clone(), session::forget))
        .layer(middleware::from_fn(guard::guard))
        .with_state(app)
}

/// Whether this server answers. The backend is left out: while it is away a person shall still be told so, in a page.
async fn health() -> Json<Value> {
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    Json(json!({ "status": "ok", "service": env!("CARGO_PKG_NAME"), "timestamp": now, "checks": {} }))
}
