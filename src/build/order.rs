//! In which order the images of one repository are built: what an image is based on comes first.

/// Images that are based on each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the images are based on each other in a circle: {}", .0.join(" → "))]
pub struct Cycle(pub Vec<String>);

/// The indices of `images` (each a name and what it is based on, by index) so that every one comes after its bases; otherwise as given.
pub fn order(images: &[(&str, Vec<usize>)]) -> Result<Vec<usize>, Cycle> {
    let mut done = vec![false; images.len()];
    let mut order = Vec::with_capacity(images.len());
    while order.len() < images.len() {
        let is_ready = |(index, (_, bases)): &(usize, &(&str, Vec<usize>))| {
            let is_done = |base: &usize| done.get(*base).copied().unwrap_or(true);
            !is_done(index) && bases.iter().all(is_done)
        };
        // The first that can be, so that the order is that of the file as far as it can be.
        let Some((next, _)) = images.iter().enumerate().find(is_ready) else { return Err(cycle(images, &done)) };
        if let Some(done) = done.get_mut(next) {
            *done = true;
        }
        order.push(next);
    }
    Ok(order)
}

/// Follows bases that can't be built until one comes again.
fn cycle(images: &[(&str, Vec<usize>)], done: &[bool]) -> Cycle {
    let waits = |index: &usize| done.get(*index) == Some(&false);
    let mut path: Vec<usize> = (0..images.len()).find(|index| waits(index)).into_iter().collect();
    while let Some(last) = path.last() {
        let Some(next) = images.get(*last).and_then(|(_, bases)| bases.iter().copied().find(|base| waits(base))) else {
            break;
        };
        if let Some(start) = path.iter().position(|index| *index == next) {
            path.drain(..start);
            path.push(next);
            break;
        }
        path.push(next);
    }
    Cycle(path.iter().filter_map(|index| images.get(*index)).map(|(name, _)| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_circle_is_named() {
        let images = [("a", vec![1]), ("b", vec![2]), ("c", vec![1]), ("d", vec![])];
        let error = order(&images).unwrap_err();
        assert_eq!(error.to_string(), "the images are based on each other in a circle: b → c → b");
        assert_eq!(order(&[("a", vec![0])]).unwrap_err(), Cycle(vec!["a".to_owned(), "a".to_owned()]));
    }

    #[test]
    fn otherwise_the_order_is_that_of_the_file() {
        assert_eq!(order(&[("a", vec![]), ("b", vec![]), ("c", vec![])]), Ok(vec![0, 1, 2]));
        assert_eq!(order(&[("a", vec![2]), ("b", vec![]), ("c", vec![])]), Ok(vec![1, 2, 0]));
    }

    proptest! {
        #[test]
        fn bases_come_first_or_a_circle_is_real(edges in prop::collection::vec((0..8_usize, 0..8_usize), 0..14)) {
            let names: Vec<String> = (0..8).map(|number| format!("i{number}")).collect();
            let bases = |index| edges.iter().filter(|(from, _)| *from == index).map(|(_, to)| *to).collect::<Vec<_>>();
            let images: Vec<(&str, Vec<usize>)> = names.iter().enumerate().map(|(index, name)| (&**name, bases(index))).collect();
            match order(&images) {
                Ok(order) => {
                    let place = |index: usize| order.iter().position(|at| *at == index).unwrap();
                    prop_assert_eq!(order.len(), 8);
                    for (from, to) in &edges {
                        prop_assert!(place(*to) < place(*from));
                    }
                }
                Err(Cycle(path)) => {
                    prop_assert!(path.len() > 1 && path.first() == path.last());
                    for pair in path.windows(2) {
                        let index = |name: &String| names.iter().position(|known| known == name).unwrap();
                        prop_assert!(edges.contains(&(index(&pair[0]), index(&pair[1]))));
                    }
                }
            }
        }
    }
}
