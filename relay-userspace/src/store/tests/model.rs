//! Random lives of a store against a map that does the same.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u64, Option<u32>)>),
    /// Offers everything but what is told to be left out.
    Rewrite {
        without: u64,
    },
    /// Begins to, and stops there.
    BeginRewrite,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0_u64..30, proptest::option::weighted(0.7, any::<u32>()));
    prop_oneof![
        8 => prop::collection::vec(change, 1..12).prop_map(Step::Write),
        1 => (0_u64..30).prop_map(|without| Step::Rewrite { without }),
        1 => Just(Step::BeginRewrite),
        2 => Just(Step::Reopen),
    ]
}

fn apply(model: &mut BTreeMap<u64, u32>, changes: &[(u64, Option<u32>)]) {
    for (id, version) in changes {
        match version {
            Some(version) => drop(model.insert(*id, *version)),
            None => drop(model.remove(id)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn store_holds_what_the_model_holds(
        steps in prop::collection::vec(step(), 1..30), segment_bytes in 0_u64..3000,
    ) {
        let options = Options { segment_bytes, merge_bytes: 3000, ..SMALL };
        let folder = tempfile::tempdir().unwrap();
        let clock = FakeClock::new();
        let mut model = BTreeMap::new();
        let mut running = Running::start(open(folder.path(), options, &clock).unwrap());
        let mut is_rewriting = false;
        for step in steps {
            match step {
                Step::Write(changes) => {
                    apply(&mut model, &changes);
                    if is_rewriting {
                        running.submit(changes);
                    } else {
                        running.write(changes);
                    }
                }
                Step::Rewrite { without } => {
                    model.remove(&without);
                    running.rewrite(model.clone());
                    is_rewriting = false;
                }
                Step::BeginRewrite => {
                    prop_assert!(running.store.begin_rewrite());
                    is_rewriting = true;
                }
                Step::Reopen => {
                    running.store.close();
                    is_rewriting = false;
                    let mut opened = open(folder.path(), options, &clock).unwrap();
                    prop_assert_eq!(load(&mut opened), model.clone());
                    prop_assert_eq!(opened.report().harm, Harm::default());
                    running = Running::start(opened);
                }
            }
        }
        running.store.close();
        prop_assert_eq!(contents(folder.path()), model);
    }
}
