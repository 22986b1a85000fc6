//! How much of everything.

use std::time::Duration;

/// The sizes of one run.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Objects of the large environment.
    pub objects: usize,
    /// Objects of the environment whose memory is measured.
    pub most_objects: usize,
    /// Deployments of the environment whose memory is measured.
    pub workloads: usize,
    /// Pairs behind a ratio.
    pub pairs: usize,
    /// Commits behind a percentile.
    pub commits: usize,
    /// Changes by hand behind a percentile.
    pub drifts: usize,
    /// Deployments that the controllers work on.
    pub deployments: usize,
    /// Commits that touch nothing.
    pub idle_commits: usize,
    /// How long nothing happens.
    pub quiet: Duration,
    /// Environments that are pushed together, and the objects of each.
    pub environments: usize,
    pub objects_each: usize,
    /// Files in the contexts of all images together.
    pub image_files: usize,
    /// Images that are built one after the other.
    pub images: usize,
    /// The context whose memory is measured.
    pub context_mib: usize,
}

impl Scale {
    /// What the names of the figures say.
    pub const FULL: Self = Self {
        objects: 2_000,
        most_objects: 10_000,
        workloads: 2_000,
        pairs: 5,
        commits: 100,
        drifts: 200,
        deployments: 20,
        idle_commits: 10,
        quiet: Duration::from_secs(60),
        environments: 100,
        objects_each: 20,
        image_files: 10_000,
        images: 15,
        context_mib: 500,
    };

    /// A smoke test.
    pub const QUICK: Self = Self {
        objects: 50,
        most_objects: 100,
        workloads: 20,
        pairs: 1,
        commits: 3,
        drifts: 5,
        deployments: 4,
        idle_commits: 2,
        quiet: Duration::from_secs(3),
        environments: 4,
        objects_each: 3,
        image_files: 200,
        images: 2,
        context_mib: 8,
    };
}
