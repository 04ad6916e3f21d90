//! Which siblings are made, and what they are.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

use super::*;

const PAGE: &str = "a page with a sentence that comes again and again. ";

fn site(files: &[(&str, usize)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        put(home.path(), name, *bytes);
    }
    home
}

fn put(home: &Path, name: &str, bytes: usize) {
    let path = home.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &PAGE.repeat(bytes / PAGE.len() + 1)[..bytes]).unwrap();
}

fn settings(home: &Path) -> Precompress {
    Precompress { root: home.to_owned(), codings: Coding::ALL.to_vec(), jobs: 2, force: false }
}

fn run(settings: &Precompress) -> (Found, Made) {
    let found = settings.find().unwrap();
    let made = settings.make(&found.wanting, &|_| {});
    (found, made)
}

/// All names below, in order.
fn names(home: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut directories = vec![home.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                directories.push(path);
            } else {
                names.push(path.strip_prefix(home).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

fn set_age(path: &Path, secs: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(secs);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn a_file_worth_it_gets_its_siblings_and_no_other_does() {
    let home = site(&[
        ("a.css", 5000),
        ("deep/er/b.js", 5000),
        ("c.js.map", 5000),
        ("small.css", 1023),
        ("photo.png", 5000),
        ("packed.svgz", 5000),
        (".hidden.css", 5000),
        (".well-known/security.txt", 5000),
        ("archive.tar.gz", 5000),
    ]);
    symlink(home.path().join("a.css"), home.path().join("link.css")).unwrap();
    symlink(home.path().join("deep"), home.path().join("linked")).unwrap();
    let (found, made) = run(&settings(home.path()));
    assert!(found.troubles.is_empty() && made.troubles.is_empty());
    assert_eq!(found.passed_over, 3, "small, photo and packed");
    let siblings: Vec<_> = names(home.path()).into_iter().filter(|name| original(Path::new(name)).is_some()).collect();
    let expected = [".well-known/security.txt", "a.css", "c.js.map", "deep/er/b.js"];
    let mut expected: Vec<_> =
        expected.iter().flat_map(|name| Coding::ALL.map(|coding| format!("{name}{}", coding.suffix()))).collect();
    expected.push("archive.tar.gz".to_owned());
    expected.sort();
    assert_eq!(siblings, expected);
    for tally in made.codings.values() {
        assert_eq!((tally.written, tally.before, tally.not_worth_it), (4, 20_000, 0));
        assert!(tally.after < 2000);
    }
}

#[test]
fn a_sibling_is_the_same_file_as_old_and_as_open() {
    let home = site(&[("a.css", 5000)]);
    let path = home.path().join("a.css");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    set_age(&path, 1_000_000_000);
    run(&settings(home.path()));
    let plain = fs::read(&path).unwrap();
    for coding in Coding::ALL {
        let sibling = sibling(&path, coding);
        let metadata = fs::metadata(&sibling).unwrap();
        assert_eq!((metadata.mode() & 0o777, age(&metadata)), (0o640, (1_000_000_000, 0)), "{coding:?}");
        let (packed, mut read) = (fs::read(&sibling).unwrap(), Vec::new());
        match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(&packed[..]).unwrap().read_to_end(&mut read),
            Coding::Brotli => brotli::Decompressor::new(&packed[..], 4096).read_to_end(&mut read),
            Coding::Gzip => flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut read),
        }
        .unwrap();
        assert_eq!(read, plain, "{coding:?}");
    }
    assert_eq!(names(home.path()).len(), 4, "no draft is left");
}

#[test]
fn what_is_current_is_left_alone_and_what_is_older_is_made_anew() {
    let home = site(&[("a.css", 5000)]);
    let path = home.path().join("a.css");
    set_age(&path, 1000);
    run(&settings(home.path()));
    let (found, made) = run(&settings(home.path()));
    assert!(found.wanting.is_empty() && made.codings.is_empty());
    assert_eq!(found.current.values().sum::<usize>(), 3);

    set_age(&sibling(&path, Coding::Brotli), 999);
    let (found, _) = run(&settings(home.path()));
    assert_eq!(found.wanting[0].codings, [Coding::Brotli]);
    let forced = Precompress { force: true, ..settings(home.path()) };
    assert_eq!(forced.find().unwrap().wanting[0].codings, Coding::ALL);

    put(home.path(), "a.css", 6000);
    assert_eq!(settings(home.path()).find().unwrap().wanting[0].codings, Coding::ALL, "its file is newer");
}

#[test]
fn what_is_hardly_smaller_is_not_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(5000)
    .collect();
    fs::write(home.path().join("noise.css"), noise).unwrap();
    let (_, made) = run(&settings(home.path()));
    assert_eq!(names(home.path()), ["noise.css"]);
    assert!(made.codings.len() == 3 && made.codings.values().all(|tally| tally.not_worth_it == 1));
    assert!(is_smaller(95, 100) && !is_smaller(96, 100));
}

#[test]
fn a_file_that_is_replaced_meanwhile_gets_no_sibling_of_what_it_was() {
    let home = site(&[("a.css", 5000)]);
    let path = home.path().join("a.css");
    let (_, before) = read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    put(home.path(), "a.css", 5000);
    assert!(!is_same(&fs::metadata(&path).unwrap(), &before), "the same size is not the same file");

    let found = settings(home.path()).find().unwrap();
    fs::remove_file(&path).unwrap();
    symlink("/etc/hostname", &path).unwrap();
    let made = settings(home.path()).make(&found.wanting, &|_| {});
    assert_eq!((made.troubles.len(), names(home.path()).len()), (1, 1));
}

#[test]
fn siblings_of_files_that_are_gone_are_found_and_archives_are_none() {
    let home =
        site(&[("a.css.br", 10), ("b.js.gz", 10), ("c.tar.gz", 10), ("data.gz", 10), ("d.css", 10), ("d.css.gz", 10)]);
    let found = settings(home.path()).find().unwrap();
    assert_eq!(found.orphans, ["a.css.br", "b.js.gz"].map(|name| home.path().join(name)));
    let narrow = Precompress { codings: vec![Coding::Brotli], ..settings(home.path()) };
    assert_eq!(narrow.find().unwrap().orphans, [home.path().join("a.css.br")]);
    assert!(prune(&found.orphans).is_empty() && prune(&found.orphans).is_empty(), "what is gone is no trouble");
    assert_eq!(names(home.path()), ["c.tar.gz", "d.css", "d.css.gz", "data.gz"]);
}

#[test]
fn a_root_that_is_none_is_an_error_and_troubles_are_told_apart() {
    assert!(settings(Path::new("/nowhere/at/all")).find().is_err());
    assert!(!Cause::Changed.is_failure() && !Cause::TooLarge.is_failure());
    assert!(Cause::Write(io::ErrorKind::StorageFull.into()).is_failure());
}
