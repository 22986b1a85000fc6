//! The queue before a builder that builds nothing, but keeps a record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc::Sender;

use super::*;
use crate::builder::{PullPolicy, Stored};

#[derive(Default)]
struct Recorder {
    present: Mutex<HashSet<String>>,
    begun: Mutex<Vec<String>>,
    ended: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    /// A build waits for a permit here, so that a test decides when it ends.
    gate: Option<Semaphore>,
    broken: Option<&'static str>,
    /// Images whose builds never end.
    hang: bool,
}

impl Recorder {
    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }
}

/// A build that is under way; dropped unfinished, it was cancelled.
struct Running<'a>(&'a Recorder);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Builder for Recorder {
    async fn present(&self, references: &[String]) -> Result<Vec<bool>, BuildError> {
        let present = self.present.lock().unwrap();
        Ok(references.iter().map(|reference| present.contains(reference)).collect())
    }

    async fn build(&self, order: &BuildOrder, _: Context, log: Sender<Progress>) -> Result<Built, BuildError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let _running = Running(self);
        self.most.fetch_max(running, Ordering::SeqCst);
        self.begun.lock().unwrap().push(order.reference.clone());
        let _ = log.send(Progress::Step("FROM scratch".to_owned())).await;
        if self.broken == Some(order.reference.as_str()) {
            return Err(BuildError::NoDockerfile("Dockerfile".to_owned()));
        }
        if self.hang && order.reference.starts_with("hangs") {
            std::future::pending::<()>().await;
        }
        match &self.gate {
            Some(gate) => gate.acquire().await.unwrap().forget(),
            None => tokio::task::yield_now().await,
        }
        self.present.lock().unwrap().insert(order.reference.clone());
        self.ended.lock().unwrap().push(order.reference.clone());
        Ok(Built { digest: None })
    }

    async fn images(&self) -> Result<Vec<Stored>, BuildError> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &str) -> Result<(), BuildError> {
        Ok(())
    }

    fn pull_policy(&self) -> PullPolicy {
        PullPolicy::Never
    }
}

fn wanted(reference: &str, bases: &[&str]) -> Wanted {
    let bases: BTreeMap<String, String> = bases.iter().map(|base| ((*base).to_owned(), (*base).to_owned())).collect();
    let order = BuildOrder { reference: reference.to_owned(), bases, ..BuildOrder::default() };
    Wanted { order, context: Box::new(|| Box::pin(futures::stream::empty())) }
}

fn silent(_: &str, _: Progress) {}

#[tokio::test]
async fn what_stands_is_not_built_and_its_context_is_not_opened() {
    let recorder = Arc::new(Recorder::default());
    recorder.present.lock().unwrap().insert("a:1".to_owned());
    let queue = Queue::new(recorder.clone(), 2, 2);
    let mut stands = wanted("a:1", &[]);
    stands.context = Box::new(|| panic!("nobody reads this context"));
    let told = Mutex::new(Vec::new());
    let had = queue.have("dev", vec![stands, wanted("b:1", &[])], Needed::default(), |reference, line| {
        told.lock().unwrap().push((reference.to_owned(), line));
    });
    let had = had.await.unwrap();
    let built: Vec<(&str, bool)> = had.iter().map(|had| (had.reference.as_str(), had.built.is_some())).collect();
    assert_eq!(built, [("a:1", false), ("b:1", true)]);
    assert_eq!(recorder.begun(), ["b:1"]);
    assert_eq!(told.into_inner().unwrap(), [("b:1".to_owned(), Progress::Step("FROM scratch".to_owned()))]);
}

#[tokio::test]
async fn bases_are_built_first_whatever_the_order_of_the_question() {
    let recorder = Arc::new(Recorder::default());
    let queue = Queue::new(recorder.clone(), 8, 8);
    let wanted = vec![wanted("top:1", &["middle:1", "base:1"]), wanted("middle:1", &["base:1"]), wanted("base:1", &[])];
    let had = queue.have("dev", wanted, Needed::default(), silent).await.unwrap();
    assert_eq!(recorder.begun(), ["base:1", "middle:1", "top:1"]);
    assert_eq!(had.iter().map(|had| had.reference.as_str()).collect::<Vec<_>>(), ["top:1", "middle:1", "base:1"]);
}

#[tokio::test]
async fn so_many_at_a_time_for_each_and_for_all_and_no_more() {
    for (environments, most) in [(1, 2), (2, 4), (4, 5)] {
        let recorder = Arc::new(Recorder::default());
        let queue = Queue::new(recorder.clone(), 5, 2);
        let of = |environment: usize| (0..9).map(move |number| wanted(&format!("image{number}-{environment}:1"), &[]));
        let names: Vec<String> = (0..environments).map(|environment| environment.to_string()).collect();
        let all = names
            .iter()
            .enumerate()
            .map(|(number, name)| queue.have(name, of(number).collect(), Needed::default(), silent));
        let had = futures::future::join_all(all).await;
        assert!(had.iter().all(|had| had.as_ref().unwrap().len() == 9));
        assert_eq!(recorder.most.load(Ordering::SeqCst), most);
    }
}

#[tokio::test]
async fn builds_that_hang_keep_no_other_environment_waiting() {
    let recorder = Arc::new(Recorder { hang: true, ..Recorder::default() });
    let queue = Queue::new(recorder.clone(), PARALLEL, EACH);
    let hanging = (0..4).map(|number| wanted(&format!("hangs{number}:1"), &[])).chain([wanted("shared:1", &[])]);
    let others = async {
        while recorder.begun().len() < EACH {
            tokio::task::yield_now().await;
        }
        // The second is one that the first environment waits to build, too.
        queue.have("prod", vec![wanted("quick:1", &[]), wanted("shared:1", &[])], Needed::default(), silent).await
    };
    let had = tokio::select! {
        _ = queue.have("dev", hanging.collect(), Needed::default(), silent) => panic!("it hangs"),
        had = tokio::time::timeout(Duration::from_secs(60), others) => had.expect("it does not wait"),
    };
    assert!(had.unwrap().iter().all(|had| had.built.is_some()));
    assert_eq!(recorder.begun(), ["hangs0:1", "hangs1:1", "quick:1", "shared:1"]);
}

#[tokio::test]
async fn a_failure_cancels_the_others_and_names_its_image() {
    let gate = Some(Semaphore::new(0)); // The other one would never end.
    let recorder = Arc::new(Recorder { gate, broken: Some("broken:1"), ..Recorder::default() });
    let queue = Queue::new(recorder.clone(), 2, 2);
    let error = queue
        .have("dev", vec![wanted("slow:1", &[]), wanted("broken:1", &[])], Needed::default(), silent)
        .await
        .unwrap_err();
    assert_eq!(error.reference, "broken:1");
    assert_eq!(recorder.begun(), ["slow:1", "broken:1"]);
    assert_eq!(recorder.running.load(Ordering::SeqCst), 0, "the slow one was cancelled");
    assert!(recorder.ended.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_same_image_is_built_once_for_two_who_ask_at_once() {
    let recorder = Arc::new(Recorder { gate: Some(Semaphore::new(0)), ..Recorder::default() });
    let queue = Queue::new(recorder.clone(), 8, 8);
    let (first, second) = tokio::join!(queue.have("dev", vec![wanted("a:1", &[])], Needed::default(), silent), async {
        let asked = queue.have("dev", vec![wanted("a:1", &[])], Needed::default(), silent);
        tokio::join!(asked, async { recorder.gate.as_ref().unwrap().add_permits(1) }).0
    });
    let built = [first, second].map(|had| had.unwrap()[0].built.is_some());
    assert_eq!(built, [true, false]);
    assert_eq!(recorder.begun(), ["a:1"]);
}

#[tokio::test]
async fn who_waits_for_a_build_that_is_cancelled_builds_it() {
    let recorder = Arc::new(Recorder { gate: Some(Semaphore::new(0)), ..Recorder::default() });
    let queue = Arc::new(Queue::new(recorder.clone(), 8, 8));
    let ask = || {
        let queue = queue.clone();
        tokio::spawn(async move { queue.have("dev", vec![wanted("a:1", &[])], Needed::default(), silent).await })
    };
    let (first, second) = (ask(), ask());
    while recorder.begun().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    recorder.gate.as_ref().unwrap().add_permits(1);
    assert!(second.await.unwrap().unwrap()[0].built.is_some());
    assert_eq!(recorder.begun(), ["a:1", "a:1"]);
}

#[tokio::test]
async fn images_that_need_each_other_are_an_error_and_no_hang() {
    let recorder = Arc::new(Recorder::default());
    let queue = Queue::new(recorder.clone(), 2, 2);
    let circle = vec![wanted("a:1", &["b:1"]), wanted("b:1", &["a:1"]), wanted("c:1", &[])];
    let error = queue.have("dev", circle, Needed::default(), silent).await.unwrap_err();
    assert!(matches!(error.error, BuildError::BasesInACircle), "{error}");
}

/// Waits for a state that comes without the clock.
async fn until(state: impl Fn() -> bool) {
    while !state() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_not_needed_any_more_is_cancelled_and_the_rest_goes_on() {
    let gate = Some(Semaphore::new(0));
    let recorder = Arc::new(Recorder { gate, hang: true, ..Recorder::default() });
    let (queue, needed) = (Queue::new(recorder.clone(), 4, 2), Needed::default());
    let older = [wanted("base:1", &[]), wanted("hangs:1", &[]), wanted("late:1", &[]), wanted("top:1", &["hangs:1"])];
    let newer = async {
        until(|| recorder.begun().len() == 2).await;
        needed.only(HashSet::from(["base:1".to_owned()]));
        let newer = queue.have("dev", vec![wanted("base:1", &[]), wanted("quick:1", &[])], Needed::default(), silent);
        let opened = async {
            until(|| recorder.running.load(Ordering::SeqCst) == 1).await;
            recorder.gate.as_ref().unwrap().add_permits(9);
        };
        tokio::join!(newer, opened).0
    };
    let (older, newer) = tokio::join!(queue.have("dev", older.into(), needed.clone(), silent), newer);
    let names = |had: Result<Vec<Had>, NotHad>| {
        had.unwrap().into_iter().map(|had| (had.reference, had.built.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(names(older), [("base:1".to_owned(), true)]);
    assert_eq!(names(newer), [("base:1".to_owned(), false), ("quick:1".to_owned(), true)]);
    assert_eq!(recorder.begun(), ["base:1", "hangs:1", "quick:1"], "nothing is begun that is not needed, nor anew");
}

#[tokio::test]
async fn what_was_built_while_its_turn_was_waited_for_is_not_built_again() {
    let recorder = Arc::new(Recorder { gate: Some(Semaphore::new(0)), ..Recorder::default() });
    let queue = Queue::new(recorder.clone(), 4, 1);
    let ask = || queue.have("dev", vec![wanted("a:1", &[])], Needed::default(), silent);
    let opened = async {
        until(|| !recorder.begun().is_empty()).await;
        recorder.gate.as_ref().unwrap().add_permits(9);
    };
    let (first, second, ()) = tokio::join!(ask(), ask(), opened);
    assert_eq!([first, second].map(|had| had.unwrap()[0].built.is_some()), [true, false]);
    assert_eq!(recorder.begun(), ["a:1"]);
}
