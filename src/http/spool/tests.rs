//! Bodies through memory and files, full and failing disks.

use std::future::poll_fn;

use super::*;

pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

pub(super) fn spool(directory: &Path, memory_bytes: usize, disk_bytes: u64) -> Spool {
    Spool::new(SpoolSettings { directory: directory.to_owned(), memory_bytes, disk_bytes })
}

/// Keeps `body`, which comes in frames of `frame` bytes.
async fn keep(spool: &Spool, body: &[u8], frame: usize) -> Result<Kept, SpoolError> {
    let mut keeping = spool.keep();
    for data in body.chunks(frame) {
        keeping.take(Bytes::copy_from_slice(data)).await?;
    }
    keeping.finish().await
}

async fn drain(kept: &mut Kept) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = poll_fn(|cx| kept.poll_piece(cx)).await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

/// Waits until the room of files that are closed elsewhere is free.
pub(super) async fn until_free(spool: &Spool) {
    let free = async {
        while spool.usage().disk_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), free).await.expect("files are closed");
}

pub(super) fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[tokio::test]
async fn a_small_body_is_kept_in_memory() {
    let directory = Path::new("/nonexistent");
    for length in [0, 1, 1000] {
        let spool = spool(directory, 1000, 0);
        let mut kept = keep(&spool, &pattern(length), 7).await.unwrap();
        assert_eq!((kept.left(), spool.usage().bodies()), (length as u64, 1));
        assert_eq!(drain(&mut kept).await, pattern(length));
        assert_eq!(kept.left(), 0);
    }
}

#[tokio::test]
async fn a_large_body_comes_back_out_of_a_file_that_nobody_can_find() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool(home.path(), 1000, 1 << 20);
    for length in [1001, PIECE_BYTES + 1000, 3 * PIECE_BYTES + 77] {
        for frame in [999, 100_000] {
            let body = pattern(length);
            let mut kept = keep(&spool, &body, frame).await.unwrap();
            assert!(is_empty(home.path()));
            assert_eq!((kept.left(), spool.usage().disk_bytes()), (length as u64, length as u64 - 1000));
            assert!(drain(&mut kept).await == body, "{length} in frames of {frame}");
            assert!(poll_fn(|cx| kept.poll_piece(cx)).await.is_none());
            until_free(&spool).await;
        }
    }
    assert_eq!(spool.usage().bodies(), 6);
}

#[tokio::test]
async fn what_has_left_memory_is_read_on_another_thread() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool(home.path(), 0, 1 << 20);
    let body = pattern(PIECE_BYTES + 5);
    let mut kept = keep(&spool, &body, 1000).await.unwrap();
    let open = kept.file.as_ref().and_then(|file| file.open.clone()).unwrap();
    kept.reading = Some(Box::pin(on_disk(move || {
        let mut piece = vec![0; PIECE_BYTES];
        open.file.read_exact_at(&mut piece, 0)?;
        Ok(piece.into())
    })));
    assert!(drain(&mut kept).await == body);
    until_free(&spool).await;
}

#[tokio::test]
async fn a_body_that_is_given_up_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool(home.path(), 0, 1 << 20);
    let mut keeping = spool.keep();
    keeping.take(pattern(PIECE_BYTES).into()).await.unwrap();
    assert_eq!(spool.usage().disk_bytes(), PIECE_BYTES as u64);
    drop(keeping);
    until_free(&spool).await;
    assert!(is_empty(home.path()));

    let kept = keep(&spool, &pattern(PIECE_BYTES), 1000).await.unwrap();
    drop(kept);
    until_free(&spool).await;
}

#[tokio::test]
async fn there_is_no_more_room_than_was_said() {
    let home = tempfile::tempdir().unwrap();
    let piece = PIECE_BYTES as u64;
    let first = spool(home.path(), 10, piece);
    let kept = keep(&first, &pattern(PIECE_BYTES), 1000).await.unwrap();
    let refused = keep(&first, &pattern(100), 100).await;
    assert!(matches!(refused, Err(SpoolError::Full(None))), "{refused:?}");
    assert_eq!(first.usage().disk_bytes(), piece - 10, "what is refused takes no room");

    let next = spool(home.path(), 10, 2 * piece).continuing(&first);
    let other = keep(&next, &pattern(PIECE_BYTES), 1000).await.unwrap();
    assert_eq!(next.usage().disk_bytes(), 2 * (piece - 10), "other settings do not forget what is kept");
    drop((kept, other));
    until_free(&next).await;
    keep(&first, &pattern(100), 100).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_is_an_error_and_never_an_end() {
    let home = tempfile::tempdir().unwrap();
    let missing = spool(&home.path().join("missing"), 10, 1 << 20);
    assert!(matches!(keep(&missing, &pattern(11), 11).await, Err(SpoolError::Io(_))));
    assert!(check_spool_directory(home.path()).is_ok() && check_spool_directory(&home.path().join("missing")).is_err());

    let spool = spool(home.path(), 10, 1 << 20);
    let mut kept = keep(&spool, &pattern(100), 100).await.unwrap();
    kept.file.as_ref().and_then(|file| file.open.as_ref()).unwrap().file.set_len(50).unwrap();
    assert_eq!(poll_fn(|cx| kept.poll_piece(cx)).await.unwrap().unwrap(), pattern(10));
    assert!(matches!(poll_fn(|cx| kept.poll_piece(cx)).await, Some(Err(SpoolError::Io(_)))));
    assert!(poll_fn(|cx| kept.poll_piece(cx)).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_given_up() {
    let all = u32::try_from(OPERATIONS_AT_ONCE).unwrap();
    let busy = OPERATIONS.acquire_many(all).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let stalled = keep(&spool(home.path(), 0, 1000), &pattern(10), 10).await;
    assert!(matches!(stalled, Err(SpoolError::Stalled)), "{stalled:?}");
    drop(busy);
}

#[test]
fn a_file_has_no_name_on_any_file_system() {
    let home = tempfile::tempdir().unwrap();
    for file in [nameless(home.path()).unwrap(), named_for_a_moment(home.path()).unwrap()] {
        file.write_all_at(b"body", 0).unwrap();
        assert!(is_empty(home.path()));
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_nlink, 0);
    }
}
