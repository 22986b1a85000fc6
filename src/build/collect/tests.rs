use proptest::prelude::*;

use super::*;

const DAY: i64 = 24 * 60 * 60;
const NOW: i64 = 1_800_000_000;
const ALL: Policy = Policy { newest: 0, seconds: 0 };

fn tag(number: u32) -> String {
    format!("{number:040x}")
}

fn image(reference: String, built_as: Option<&str>, age: i64) -> Standing {
    Standing { reference, built_as: built_as.map(str::to_owned), created: NOW - age }
}

fn own(name: &str, number: u32, age: i64) -> Standing {
    let (reference, built_as) =
        (format!("docker.io/library/{name}:{}", tag(number)), format!("{name}:{}", tag(number)));
    image(reference, Some(&built_as), age)
}

fn goes(images: &[Standing], references: &[&str], policy: Policy) -> Vec<String> {
    let references: References = references.iter().collect();
    removable(images, &references, policy, NOW).into_iter().map(|place| images[place].reference.clone()).collect()
}

#[test]
fn what_is_old_and_unused_goes_but_for_the_newest_of_each_name() {
    let images = [own("web", 1, 3 * DAY), own("web", 2, 2 * DAY), own("web", 3, 0), own("api", 1, 9 * DAY)];
    let name = |place: usize| images[place].reference.clone();
    assert_eq!(goes(&images, &[], ALL), [name(3), name(0), name(1), name(2)], "the oldest first");
    assert_eq!(goes(&images, &[], Policy { newest: 1, seconds: 0 }), [name(0), name(1)]);
    assert_eq!(goes(&images, &[], Policy { newest: 1, seconds: 3 * DAY }), [name(0)]);
    assert_eq!(goes(&images, &[], Policy { newest: 3, seconds: 0 }), [""; 0]);
    assert_eq!(goes(&images, &[&format!("web:{}", tag(1))], Policy { newest: 1, seconds: 0 }), [name(1)]);
}

#[test]
fn what_was_built_under_a_former_form_of_tag_goes_as_all_else_does() {
    let former =
        |number: u32| image(format!("docker.io/library/web:{number:016x}"), Some(&format!("web:{number:016x}")), DAY);
    let images = [former(1), former(2), own("web", 1, 0)];
    let name = |place: usize| images[place].reference.clone();
    assert_eq!(goes(&images, &[&format!("web:{:016x}", 2)], ALL), [name(0), name(2)], "unless it is referred to");
    assert_eq!(goes(&images, &[], Policy { newest: 1, seconds: 0 }), [name(0), name(1)], "of one name all are counted");
}

#[test]
fn what_may_be_anothers_stays() {
    let of = |reference: &str, built_as| image(reference.to_owned(), built_as, DAY);
    let ours = tag(7);
    let web = format!("web:{ours}");
    let kept = [
        of(&format!("docker.io/library/web:{ours}"), None),
        // Built upon ours, or named so by hand: the label came along.
        of(&format!("docker.io/library/web-debug:{ours}"), Some(&*web)),
        of(&format!("docker.io/team/web:{ours}"), Some(&*web)),
        of("docker.io/library/web:release", Some(&*web)),
        of("docker.io/library/web:latest", Some(&*web)),
        of("docker.io/library/web", Some(&*web)),
        of(&format!("docker.io/library/web:{}", ours.to_uppercase().replace('0', "A")), Some(&*web)),
        of(&format!("docker.io/library/web:{ours}@sha256:00"), Some(&*web)),
        of(&format!("sha256:{}", "0".repeat(64)), Some(&*web)),
        of("", Some("")),
        // Tagged anew by hand, or committed from a container: the start of a commit's id looks like a tag of plumb's.
        of(&format!("docker.io/library/web:{}", tag(8)), Some(&*web)),
        of(&format!("docker.io/library/web:{ours}"), Some("web")),
    ];
    assert_eq!(goes(&kept, &[], ALL), [""; 0]);
    for (reference, built_as) in
        [("web", "web"), ("docker.io/library/web", "web"), ("web", "docker.io/web"), ("r:5000/a/web", "r:5000/a/web")]
    {
        let (reference, built_as) = (format!("{reference}:{ours}"), format!("{built_as}:{ours}"));
        assert_eq!(goes(&[image(reference.clone(), Some(&built_as), DAY)], &[], ALL), [reference]);
    }
}

#[test]
fn a_reference_keeps_whatever_it_may_mean() {
    let (first, id) = (tag(1), "a".repeat(64));
    let images = [own("web", 1, DAY)];
    for keeps in [
        format!("web:{first}"),
        format!("docker.io/web:{first}"),
        format!("index.docker.io/library/web:{first}"),
        format!("web:{first}@sha256:{id}"),
        format!("web@sha256:{id}"),
        format!("web:other@sha256:{id}"),
        format!("sha256:{id}"),
        id.clone(),
    ] {
        assert_eq!(goes(&images, &[&keeps], ALL), [""; 0], "{keeps}");
    }
    for does_not in [format!("web:{}", tag(2)), "web".to_owned(), format!("team/web:{first}"), String::new()] {
        assert_eq!(goes(&images, &[&does_not], ALL).len(), 1, "{does_not}");
    }
}

#[test]
fn an_image_of_unknown_age_stays_and_takes_no_others_place() {
    let mut images = [own("web", 1, DAY), own("web", 2, DAY), own("web", 3, 2 * DAY)];
    images[1].created = 0;
    let gone = goes(&images, &[], Policy { newest: 2, seconds: 0 });
    assert_eq!(gone, [images[2].reference.clone()]);
    assert_eq!(goes(&images, &[], ALL).len(), 2);
    images[0].created = NOW + DAY;
    assert_eq!(goes(&images, &[], ALL).len(), 1, "a clock that was put back is no reason");
}

/// A name, a tag, what the label says and the age.
fn any_image() -> impl Strategy<Value = Standing> {
    let built_as = prop_oneof![4 => Just(None::<Option<String>>), 1 => Just(Some(None)), 1 => "[a-c]".prop_map(|name| Some(Some(name)))];
    let tag = prop_oneof![6 => (0..6_u32).prop_map(tag), 1 => Just("latest".to_owned())];
    let created = prop_oneof![9 => (-DAY..40 * DAY).prop_map(|age| NOW - age), 1 => Just(0)];
    ("[a-c]", tag, built_as, created).prop_map(|(name, tag, built_as, created)| Standing {
        reference: format!("docker.io/library/{name}:{tag}"),
        built_as: built_as.unwrap_or(Some(name)).map(|name| format!("{name}:{tag}")),
        created,
    })
}

/// References as containers have them: mostly to what may stand.
fn any_references() -> impl Strategy<Value = Vec<String>> {
    let reference = prop_oneof![
        30 => ("[a-c]", 0..6_u32).prop_map(|(name, number)| format!("{name}:{}", tag(number))),
        3 => "[a-c]".prop_map(|name| format!("{name}@sha256:00")),
        3 => "[a-c](:[a-z]{1,3})?",
        1 => Just(format!("sha256:{}", "0".repeat(64))),
    ];
    prop::collection::vec(reference, 0..6)
}

proptest! {
    #[test]
    fn nothing_goes_that_is_needed_young_new_or_anothers(
        images in prop::collection::vec(any_image(), 0..24),
        named in any_references(),
        newest in 0..4_usize,
        seconds in 0..20 * DAY,
    ) {
        let policy = Policy { newest, seconds };
        let references: References = named.iter().collect();
        let go = |images: &[Standing], policy| -> BTreeSet<usize> {
            let places = removable(images, &references, policy, NOW);
            let unique: BTreeSet<usize> = places.iter().copied().collect();
            assert_eq!(unique.len(), places.len(), "each once");
            unique
        };
        let gone = go(&images, policy);
        for image in gone.iter().map(|place| &images[*place]) {
            let short = image.reference.strip_prefix("docker.io/library/").unwrap();
            let (name, tag) = short.split_once(':').unwrap();
            let (by_digest, old) = (format!("{name}@sha256:00"), image.created > 0 && NOW - image.created >= seconds);
            let is_named = named.iter().any(|other| other == short || *other == by_digest || other.starts_with("sha256:"));
            prop_assert!(!is_named && old && tag != "latest", "{:?}", image);
            prop_assert_eq!(image.built_as.as_deref(), Some(short));
        }
        let left = images.iter().enumerate().filter(|(place, _)| !gone.contains(place)).map(|(_, image)| image.clone());
        let left: Vec<Standing> = left.collect();
        for name in ["a", "b", "c"] {
            let own = |image: &&Standing| image.own().is_some_and(|own| own == format!("docker.io/library/{name}"));
            let left: Vec<i64> = left.iter().filter(own).map(|image| image.created).collect();
            prop_assert!(left.len() >= newest.min(images.iter().filter(own).count()));
            let gone = gone.iter().map(|place| &images[*place]).filter(own).map(|image| image.created).max();
            let newer = left.iter().filter(|created| gone.is_none_or(|gone| **created >= gone || **created <= 0)).count();
            prop_assert!(gone.is_none() || newer >= newest, "the newest are left");
        }
        prop_assert!(go(&left, policy).is_empty(), "once is enough");
        let (more, older) = (Policy { newest: newest + 1, seconds }, Policy { newest, seconds: seconds + 1 });
        prop_assert!(go(&images, more).is_subset(&gone) && go(&images, older).is_subset(&gone));
    }

    #[test]
    fn another_reference_never_lets_more_go(images in prop::collection::vec(any_image(), 0..24), named in any_references(), more in any_references()) {
        let few: References = named.iter().collect();
        let mut many = few.clone();
        many.extend(&more);
        let few: BTreeSet<usize> = removable(&images, &few, ALL, NOW).into_iter().collect();
        prop_assert!(removable(&images, &many, ALL, NOW).iter().all(|place| few.contains(place)));
    }

    #[test]
    fn whatever_is_written_somewhere_is_taken(image in "\\PC{0,80}", created in any::<i64>(), seconds in any::<i64>(), now in any::<i64>()) {
        let standing = Standing { reference: image.clone(), built_as: Some(image.clone()), created };
        removable(std::slice::from_ref(&standing), &References::default(), Policy { newest: 0, seconds }, now);
        let references: References = [&image].into_iter().collect();
        let policy = Policy { newest: 0, seconds };
        prop_assert!(removable(&[standing], &references, policy, now).is_empty());
    }
}
