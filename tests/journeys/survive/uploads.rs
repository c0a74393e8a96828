//! A power cut after an upload was answered: its bytes are there.

use chelseru_tests::folder;

use super::restore::disk as power;
use super::*;

const IMAGES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_answered_survives_a_power_cut() {
    let tools = tempfile::tempdir().expect("a folder");
    let Some(library) = power::recorder(tools.path()) else {
        eprintln!("skipped: power cuts need Linux with glibc and a C compiler");
        return;
    };
    let dir = folder("");
    let before = power::read_all(dir.path());
    let trace = tools.path().join("trace");
    let mut serve = Command::new(process::binary());
    serve.arg("serve");
    power::record(&mut serve, &library, dir.path(), &trace);
    let town = Town::in_gateway(Served::start_command(dir.path(), serve)).await;
    let begun = super::disk::begin_upload(&town).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let uploaded = super::disk::upload(&town).await;
    assert_eq!(uploaded.status, 201, "{uploaded:?}");
    let Town { served, client, access, room } = town;
    served.kill();
    let recorded = power::Recorded::read(dir.path(), before, &trace);

    let path = uploaded.body["file"].as_str().expect("a path").trim_start_matches("/media/").to_owned();
    let id = begun.header("location").trim_end_matches('/').rsplit('/').next().expect("an id").to_owned();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seed = now.as_nanos() as u64 | 1;
    let mut last = None;
    for image in 0..IMAGES {
        let context = format!("seed {seed}, image {image}, of {} events", recorded.len());
        let folder = tempfile::tempdir().expect("a folder");
        let mut random = power::Random(seed.wrapping_add(image as u64 * 2));
        recorded.image(recorded.len(), &mut random, folder.path());
        let data = folder.path().join("data");
        let there = std::fs::read(data.join(&path));
        assert_eq!(there.ok().as_deref(), Some(b"something".as_slice()), "{context}: {path}");
        for name in [format!("{id}.json"), format!("{id}.part")] {
            assert!(data.join("uploads/incoming").join(&name).exists(), "{context}: {name}");
        }
        last = Some(folder);
    }
    let folder = last.expect("an image");
    let town = Town { served: Served::start(folder.path()), client, access, room };
    let upload = town.client.get(town.url(&format!("/message/file/tus/{id}/"))).bearer_auth(&town.access);
    let upload = Answer::of(upload.header("tus-resumable", "1.0.0")).await;
    assert_eq!((upload.status, upload.header("upload-offset")), (200, "0"), "{upload:?}");
}
