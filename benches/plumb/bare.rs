//! What plumb is measured against: server-side apply of the same objects by a bare kube-rs client, and nothing else.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::requests::Writes;
use crate::world::World;

/// How many requests may be under way at once; the best of these is what plumb has to match.
const IN_FLIGHT: [usize; 3] = [8, 16, 32];
/// Looks at each of them.
const ROUNDS: usize = 2;

/// An object to apply: its namespace, its name, its body.
pub struct Body {
    pub namespace: String,
    pub name: String,
    pub json: Value,
}

/// Applies all objects, and gives what the audit log says of it.
pub async fn apply(world: &World, bodies: &[Body], in_flight: usize) -> Writes {
    let audit = world.audit();
    let mark = audit.mark().await;
    let client = world.client().await;
    let params = PatchParams::apply("bare").force();
    let one = async |body: &Body| {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &body.namespace);
        api.patch_metadata(&body.name, &params, &Patch::Apply(&body.json)).await.map(drop)
    };
    let all = stream::iter(bodies).map(one).buffer_unordered(in_flight);
    all.try_collect::<()>().await.expect("the API server takes the objects");
    Writes::of(&audit.since(mark).await, bodies.len())
}

/// The number of requests in flight that this machine does best with; looked for once a run. The first apply of all warms the API
/// server up.
pub async fn best_concurrency(world: &World, bodies: &[Body]) -> usize {
    static BEST: OnceCell<usize> = OnceCell::const_new();
    apply(world, bodies, 16).await;
    world.clear().await;
    *BEST.get_or_init(|| look_for_best(world, bodies)).await
}

async fn look_for_best(world: &World, bodies: &[Body]) -> usize {
    let mut best = [0.0_f64; IN_FLIGHT.len()];
    for _ in 0..ROUNDS {
        for (best, in_flight) in best.iter_mut().zip(IN_FLIGHT) {
            *best = best.max(apply(world, bodies, in_flight).await.rate());
            world.clear().await;
        }
    }
    let told: Vec<_> =
        IN_FLIGHT.iter().zip(best).map(|(in_flight, rate)| format!("{in_flight}: {rate:.0}/s")).collect();
    println!("  bare client, best of {ROUNDS} by requests in flight: {}", told.join(", "));
    let winner = IN_FLIGHT.into_iter().zip(best).max_by(|(_, a), (_, b)| a.total_cmp(b));
    winner.map(|(in_flight, _)| in_flight).expect("three were tried")
}
