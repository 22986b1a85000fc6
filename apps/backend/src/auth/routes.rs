//! `/api/auth`: sign up, sign in, who am I.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use chrono::Utc;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::CurrentUser;
use super::token::Session;
use crate::database::from_row;
use crate::error::ApiError;
use crate::extract::Json;
use crate::server::App;
use crate::text;

/// Below `/api/auth`.
pub fn routes() -> Router<App> {
    Router::new().route("/signup", post(sign_up)).route("/signin", post(sign_in)).route("/me", get(me))
}

#[derive(Deserialize)]
struct SignUp {
    email: String,
    password: SecretString,
    name: Option<String>,
}

#[derive(Deserialize)]
struct SignIn {
    email: String,
    password: SecretString,
}

#[derive(Serialize)]
struct User {
    id: Uuid,
    email: String,
    name: String,
}

from_row!(User { id, email, name });

#[derive(Serialize)]
struct SignedIn {
    #[serde(flatten)]
    session: Session,
    user: User,
}

async fn sign_up(
    State(app): State<App>,
    Json(request): Json<SignUp>,
) -> Result<(StatusCode, Body<SignedIn>), ApiError> {
    let email = text::email(&request.email)?;
    let name = text::optional("name", request.name.as_deref().unwrap_or_default(), 100)?;
    let name = if name.is_empty() { email.split('@').next().unwrap_or_default().to_owned() } else { name };
    // An upper bound, since the whole of it is hashed.
    let length = request.password.expose_secret().chars().count();
    if !(8..=200).contains(&length) {
        return Err(ApiError::Invalid("The password must have 8 to 200 characters.".to_owned()));
    }
    // A mistake in the form costs no turn; what comes now costs the processor something.
    app.sign_ups.begin(Instant::now()).map_err(ApiError::TooManySignUps)?;
    let hash = app.passwords.hash(request.password).await?;
    let user: Option<User> = sqlx::query_as(
        "INSERT INTO users (email, name, password_hash) VALUES ($1, $2, $3)
         ON CONFLICT (email) DO NOTHING RETURNING id, email, name",
    )
    .bind(email)
    .bind(name)
    .bind(hash)
    .fetch_optional(&app.database)
    .await?;
    let user = user.ok_or(ApiError::EmailTaken)?;
    Ok((StatusCode::CREATED, signed_in(&app, user)?))
}

async fn sign_in(State(app): State<App>, Json(request): Json<SignIn>) -> Result<Body<SignedIn>, ApiError> {
    // What is no address is no account's: the same answer as for a wrong password.
    let email = text::email(&request.email).map_err(|_| ApiError::WrongCredentials)?;
    let row: Option<(Uuid, String, String, String)> =
        sqlx::query_as("SELECT id, email, name, password_hash FROM users WHERE email = $1")
            .bind(&email)
            .fetch_optional(&app.database)
            .await?;
    app.attempts.begin(&email, Instant::now()).map_err(ApiError::TooManyAttempts)?;
    let hash = row.as_ref().map(|(.., hash)| hash.clone());
    let right = app.passwords.verify(request.password, hash).await?;
    match row {
        Some((id, email, name, _)) if right => {
            app.attempts.right(&email);
            signed_in(&app, User { id, email, name })
        }
        _ => Err(ApiError::WrongCredentials),
    }
}

async fn me(State(app): State<App>, user: CurrentUser) -> Result<Body<User>, ApiError> {
    let user: Option<User> = sqlx::query_as("SELECT id, email, name FROM users WHERE id = $1")
        .bind(user.id)
        .fetch_optional(&app.database)
        .await?;
    user.map(Body).ok_or(ApiError::Unauthorized)
}

fn signed_in(app: &App, user: User) -> Result<Body<SignedIn>, ApiError> {
    Ok(Body(SignedIn { session: app.tokens.issue(user.id, Utc::now())?, user }))
}
