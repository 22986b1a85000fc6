//! The figures, their goals, and how they are shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// What a figure should be.
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    Exactly(f64),
}

impl Goal {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "first_sync_ratio" => Self::AtLeast(0.80),
            "one_of_2000_ms_p50" => Self::AtMost(50.0),
            "one_of_2000_member_requests" => Self::Exactly(2.0),
            "one_object_ms_p50" => Self::AtMost(20.0),
            "noop_commit_requests" | "steady_requests" => Self::Exactly(0.0),
            "drift_revert_ms_p50" => Self::AtMost(20.0),
            "drift_revert_ms_p99" => Self::AtMost(250.0),
            "heal_1000_ratio" => Self::AtLeast(0.7),
            "drift_false_positives" | "restart_changes" => Self::Exactly(0.0),
            "image_unchanged_ms" => Self::AtMost(5.0),
            "image_unchanged_cold_ms" => Self::AtMost(50.0),
            "image_to_ready_ratio" => Self::AtMost(1.2),
            "rss_mib_500mb_context" => Self::AtMost(64.0),
            "rss_mib_2000" => Self::AtMost(40.0),
            "rss_mib_10000" => Self::AtMost(80.0),
            "bytes_per_object" => Self::AtMost(4096.0),
            "bytes_per_workload" => Self::AtMost(8192.0),
            _ => return None,
        })
    }

    fn is_met(&self, value: f64) -> bool {
        match *self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
            Self::Exactly(goal) => (value - goal).abs() < 1e-9,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, "≥ {goal}"),
            Self::AtMost(goal) => write!(f, "≤ {goal}"),
            Self::Exactly(goal) => write!(f, "{goal}"),
        }
    }
}

/// What was measured, in the order of measuring.
#[derive(Debug, Default)]
pub struct Figures(Vec<(&'static str, f64)>);

impl Figures {
    /// Adds one; its unit is part of its name.
    pub fn record(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them as one JSON object, rounded to what they are worth.
    pub fn write(&self, file: &Path) {
        let rounded: BTreeMap<_, _> = self.0.iter().map(|(name, value)| (name, (value * 1e3).round() / 1e3)).collect();
        std::fs::create_dir_all(file.parent().expect("a file in a directory")).expect("target/bench can be made");
        let text = serde_json::to_string_pretty(&rounded).expect("numbers");
        std::fs::write(file, text + "\n").expect("the report can be written");
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["FIGURE", "VALUE", "GOAL", ""]);
        for (name, value) in &self.0 {
            let goal = Goal::of(name);
            let verdict = goal.as_ref().map_or("", |goal| if goal.is_met(*value) { "met" } else { "MISSED" });
            let goal = goal.map_or_else(String::new, |goal| goal.to_string());
            table.add_row([(*name).to_owned(), format!("{value:.2}"), goal, verdict.to_owned()]);
        }
        for column in table.column_iter_mut().skip(1).take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{}", table.trim_fmt())
    }
}

/// The value that `part` (0 to 1) of the samples do not exceed: nearest rank.
pub fn percentile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Half of the samples are below, half above.
pub fn median(samples: &[f64]) -> f64 {
    (percentile(samples, 0.5) + percentile(samples, 0.5 + 1e-9)) / 2.0
}

/// In milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// `1.25 1.31 …`, for the line that says what was measured.
pub fn listed(samples: &[f64]) -> String {
    samples.iter().map(|sample| format!("{sample:.2}")).collect::<Vec<_>>().join(" ")
}
