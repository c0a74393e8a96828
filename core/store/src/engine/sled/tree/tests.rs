//! Long values in parts, as readers see them.

use super::*;
use crate::engine::sled::parts::Splitter;

fn database() -> sled::Db {
    sled::Config::new().temporary(true).open().unwrap()
}

fn splitter(db: &sled::Db) -> Splitter {
    Splitter::new((**db).clone()).unwrap()
}

fn tree(db: &sled::Db) -> Tree {
    Tree::new((**db).clone(), FailFlag::default())
}

fn write<'a>(
    db: &sled::Db,
    splitter: &mut Splitter,
    writes: impl IntoIterator<Item = (&'a str, Option<Vec<u8>>)>,
) {
    let writes = writes.into_iter().map(|(key, value)| (key.into(), value.map(IVec::from)));
    db.apply_batch(splitter.batch(writes.collect()).unwrap()).unwrap();
}

/// A value in which every part differs.
fn value(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from((at / 64 + at + seed) % 251).unwrap()).collect()
}

fn parts(db: &sled::Db) -> usize {
    db.scan_prefix(PARTS).keys().filter(|key| key.as_ref().unwrap() != PARTS).count()
}

#[test]
fn a_value_of_any_length_is_read_as_it_was_written() {
    let (db, lengths) = (database(), [0, 1, 20, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1]);
    let mut splitter = splitter(&db);
    for bytes in lengths.into_iter().chain([2 * PART_BYTES, 2 * PART_BYTES + 1, 40 * 1024]) {
        write(&db, &mut splitter, [("k", Some(value(bytes, bytes)))]);
        assert_eq!(tree(&db).get("k").unwrap().unwrap(), value(bytes, bytes), "{bytes}");
        assert!(db.iter().all(|entry| entry.unwrap().1.len() <= PART_BYTES));
        let expected = if bytes > PART_BYTES { bytes.div_ceil(PART_BYTES) } else { 0 };
        assert_eq!(parts(&db), expected, "{bytes}");
    }
    write(&db, &mut splitter, [("k", None)]);
    assert_eq!((tree(&db).get("k").unwrap(), parts(&db)), (None, 0));
}

#[test]
fn a_value_that_reads_like_a_stub_is_a_value() {
    let db = database();
    let mut splitter = splitter(&db);
    write(&db, &mut splitter, [("a", Some(value(1, 20_000)))]);
    let stub = db.get("a").unwrap().unwrap();
    write(&db, &mut splitter, [("a", Some(stub.to_vec())), ("b", Some(stub[..8].to_vec()))]);
    assert_eq!(tree(&db).get("a").unwrap().unwrap(), stub);
    assert_eq!(tree(&db).get("b").unwrap().unwrap(), stub[..8]);
    write(&db, &mut splitter, [("a", Some(vec![1]))]);
    assert_eq!(parts(&db), 0);
}

#[test]
fn walks_have_whole_values_and_no_parts() {
    let db = database();
    let mut splitter = splitter(&db);
    let records = [("a1", 10), ("a2", 20_000), ("a3", 30), ("b1", 9_000), ("b2", 1)];
    let records = records.map(|(key, bytes)| (key, value(bytes, bytes)));
    write(&db, &mut splitter, records.clone().map(|(key, value)| (key, Some(value))));
    let tree = tree(&db);
    let all = |entries: &mut dyn Iterator<Item = sled::Result<(IVec, IVec)>>| {
        let text = |key: IVec| String::from_utf8(key.to_vec()).unwrap();
        entries.map(Result::unwrap).map(|(key, value)| (text(key), value.to_vec())).collect::<Vec<_>>()
    };
    let mut expected: Vec<_> = records.map(|(key, value)| (key.to_owned(), value)).into();
    assert_eq!(all(&mut tree.iter()), expected);
    assert_eq!(all(&mut tree.range::<&[u8], _>(b"a".as_slice()..)), expected);
    assert_eq!(all(&mut tree.scan_prefix("a")), expected[..3]);
    let keys: Vec<IVec> = tree.iter().keys().map(Result::unwrap).collect();
    assert_eq!(keys, ["a1", "a2", "a3", "b1", "b2"].map(IVec::from));
    expected.reverse();
    assert_eq!(all(&mut tree.iter().rev()), expected);
    assert_eq!(all(&mut tree.range::<&[u8], _>(..).rev()), expected);
    assert_eq!(tree.iter().keys().next_back().unwrap().unwrap(), "b2");
}

#[test]
fn numbers_go_on_after_the_database_was_opened_again() {
    let db = database();
    write(&db, &mut splitter(&db), [("a", Some(value(1, 20_000))), ("b", Some(value(2, 20_000)))]);
    let mut again = splitter(&db);
    write(&db, &mut again, [("c", Some(value(3, 20_000)))]);
    for (key, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(tree(&db).get(key).unwrap().unwrap(), value(seed, 20_000), "{key}");
    }
    // And what is replaced now was written before.
    write(&db, &mut again, [("a", Some(vec![])), ("b", None)]);
    assert_eq!(parts(&db), 3);
}

#[test]
fn a_missing_part_is_an_error_and_no_shorter_value() {
    let db = database();
    write(&db, &mut splitter(&db), [("a", Some(value(1, 20_000)))]);
    let last = db.scan_prefix(PARTS).keys().next_back().unwrap().unwrap();
    db.remove(last).unwrap();
    let error = tree(&db).get("a").unwrap_err().to_string();
    assert!(error.contains("a part of record a is missing"), "{error}");
    assert!(tree(&db).iter().next().unwrap().is_err());
}

#[test]
fn readers_see_one_of_the_values_that_a_writer_writes() {
    const ROUNDS: usize = 3000;
    let db = database();
    let mut splitter = splitter(&db);
    let written = |round: usize| match round % 4 {
        0 => Some(vec![0; 20_000]),
        1 => Some(vec![1; 9_000]),
        2 => Some(vec![2; 30]),
        _ => None,
    };
    write(&db, &mut splitter, [("k", written(0)), ("z", Some(vec![9]))]);
    let read = |value: IVec| {
        let seed = value[0];
        assert!(value.iter().all(|byte| *byte == seed), "a mixture");
        assert_eq!(Some(value.to_vec()), written(seed.into()));
        usize::from(seed)
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = |walks: bool| {
            let (tree, done, read) = (tree(&db), &done, &read);
            move || {
                let mut seen = [0_usize; 4];
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let value = if walks {
                        let entries: Vec<_> = tree.iter().map(Result::unwrap).collect();
                        assert_eq!(entries.last().unwrap().0, "z");
                        assert!(entries.len() <= 2);
                        (entries.len() == 2).then(|| entries[0].1.clone())
                    } else {
                        tree.get("k").unwrap()
                    };
                    seen[value.map_or(3, read)] += 1;
                }
                seen
            }
        };
        let readers = [scope.spawn(reader(false)), scope.spawn(reader(true))];
        for round in 0..ROUNDS {
            write(&db, &mut splitter, [("k", written(round))]);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            let seen = reader.join().unwrap();
            assert!(seen.iter().sum::<usize>() > 0, "{seen:?}");
        }
    });
}
