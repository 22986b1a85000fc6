//! Lists `migrations/` for `src/database.rs`: a file `VERSION_what_it_brings.sql` is a migration. sqlx has a macro for it, but that is a
//! program of the compiler's machine: all of sqlx, TLS and tokio would be compiled a second time for it.
#![allow(clippy::print_stdout, reason = "cargo is told on the standard output")]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=migrations");
    let mut list = String::new();
    let files = fs::read_dir(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("migrations"))?;
    let mut paths = files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort(); // A directory has no order, and the same sources give the same program.
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let wrong = || format!("{} is not named VERSION_what_it_brings.sql", path.display());
        let (version, what) = stem.split_once('_').ok_or_else(wrong)?;
        let version: i64 = version.parse().map_err(|_| wrong())?;
        if path.extension().is_none_or(|extension| extension != "sql") || what.contains('.') {
            return Err(wrong().into());
        }
        list += &format!("({version}, {:?}, include_str!({path:?})),\n", what.replace('_', " "));
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("migrations.rs"), format!("&[\n{list}]\n"))?;
    Ok(())
}
