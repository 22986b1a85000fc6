//! A commit that deletes more than the budget, and at least three objects, is more likely a mistake than a wish.

use crate::model::fields::Budget;

/// Fewer deletions than this never ask.
const AT_LEAST: usize = 3;

/// Why a person must be asked before so many of the environment's `total` objects are deleted.
pub(in crate::plan) fn ask(deletions: usize, total: usize, budget: Budget) -> Option<String> {
    let exceeded = deletions >= AT_LEAST && deletions > budget.of(total);
    exceeded.then(|| format!("it would delete {deletions} of {total} objects, and the prune budget is {budget}"))
}
