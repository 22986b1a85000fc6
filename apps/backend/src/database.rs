//! The database: its pool, its schema, and how to wait for it.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, SqlSafeStr};

/// A few pods share one PostgreSQL, whose own limit is 100 by default.
const CONNECTIONS: u32 = 10;
/// How long a request waits for a connection before it is told that the database is away.
const ACQUIRE: Duration = Duration::from_secs(3);
/// How long a migration waits for a database that can't be reached. Longer, and the rollout has failed anyway.
const PATIENCE: Duration = Duration::from_secs(240);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Version, description and statements of each file in `migrations/`. Embedded: the image needs no files. Every migration must leave a
/// schema that the version before still works with, since its pods serve until the new ones are ready, and since a roll-back runs the
/// old program on the new schema.
const MIGRATIONS: &[(i64, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// How a row becomes a value, by the names of its columns. sqlx's own macro costs what `build.rs` says.
macro_rules! from_row {
    ($row:ident { $($column:ident),+ }) => {
        impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for $row {
            fn from_row(row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                Ok(Self { $($column: sqlx::Row::try_get(row, stringify!($column))?),+ })
            }
        }
    };
}
pub(crate) use from_row;

/// Why there is no schema.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It refuses us, or has not come in time.
    #[error("the database can't be used")]
    Connect(#[source] sqlx::Error),
    /// A migration has failed; nothing of it stays.
    #[error("the migration failed")]
    Migrate(#[from] MigrateError),
}

/// A pool that connects when it is asked: the server starts, and says that it lives, without a database.
pub fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE).connect_lazy_with(options)
}

/// Brings the schema up to date. Safe when two start at once: an advisory lock lets one go first, and the other finds
/// nothing to do. A version that the database has and this program does not is left alone: it is a later one.
pub async fn migrate(options: &PgConnectOptions) -> Result<(), DatabaseError> {
    let mut connection = connect(options).await?;
    let migrations = MIGRATIONS.iter().map(|&(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrations = Migrator::with_migrations(migrations.collect());
    migrations.set_ignore_missing(true);
    migrations.run(&mut connection).await?;
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the connection did not end well");
    }
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, DatabaseError> {
    let started = tokio::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match PgConnection::connect_with(options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if !passes(&error) || started.elapsed() + pause > PATIENCE {
            return Err(DatabaseError::Connect(error));
        }
        tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "waiting for the database");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether waiting may help: the database is away, starting, or full. Against a wrong password, or a certificate that is not the
/// server's, nothing but a person helps.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
            !matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
        }
        sqlx::Error::PoolTimedOut => true,
        // cannot_connect_now, too_many_connections, and connection exceptions
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code == "57P03" || code == "53300" || code.starts_with("08"))
        }
        _ => false,
    }
}
