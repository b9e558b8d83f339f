//! Both forms of archive, what is none, and the reference's quoting.

use super::*;
use proptest::prelude::*;
fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new_stream(Vec::new());
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn names(archive: &Archive) -> Vec<String> {
    archive.items.iter().map(|item| format!("{}/{}", item.group, item.data_id)).collect()
}

fn unpack(entries: &[(&str, &[u8])]) -> Result<Archive, ArchiveError> {
    read(&packed(entries), &mut |_| true)
}

#[test]
fn the_form_of_1x() {
    let meta = b"G.app~yaml.app=shop\r\n\nG2.plain.app=x|";
    let read =
        unpack(&[("G/app.yaml", b"a: 1"), ("G2/plain", b"c"), ("a/b/c", b""), (".meta.yml", meta)]);
    let read = read.unwrap();
    assert_eq!(names(&read), ["G/app.yaml", "G2/plain"]);
    let seen: Vec<_> = read.items.iter().map(|it| (it.kind.as_str(), it.app.as_deref())).collect();
    assert_eq!(seen, [("yaml", Some("shop")), ("text", Some("x"))]);
    assert_eq!(read.unrecognized, [Unrecognized::Name("a/b/c".to_owned())]);
    for wrong in ["a=b=c", "a"] {
        let read = unpack(&[("G/a", b"1"), (".meta.yml", wrong.as_bytes())]);
        assert!(matches!(read, Err(ArchiveError::Metadata(_))), "{wrong}");
    }
    assert_eq!(names(&unpack(&[("G/a.htm", b"1")]).unwrap()), ["G/a.htm"]);
}

#[test]
fn the_form_with_metadata() {
    let meta = "metadata:\n- appName: ''\n  dataId: y\n  group: 1\n  type: json\n  configTags: t1,t2\n  \
        desc: 'x: # y'\n- dataId: away\n  group: G\n  type: text\n";
    let read = unpack(&[("1/y", b"{}"), ("G/extra", b"z"), (".metadata.yml", meta.as_bytes())]);
    let read = read.unwrap();
    let want = Item {
        group: "1".to_owned(),
        data_id: "y".to_owned(),
        content: "{}".into(),
        kind: "json".to_owned(),
        app: Some(String::new()),
        tags: Some("t1,t2".to_owned()),
        description: "x: # y".to_owned(),
        encrypted_data_key: String::new(),
    };
    assert_eq!(read.items, [want]);
    let lost = Unrecognized::NotInFile("G/away".to_owned());
    assert_eq!(read.unrecognized, [lost, Unrecognized::NotInMetadata("G/extra".to_owned())]);
    for wrong in [
        "",
        "x",
        "metadata: []",
        "metadata: {}",
        "metadata: [1]",
        "- a",
        "metadata:\n- dataId: a",
        "metadata:\n- {dataId: a, group: ' ', type: text}",
        "a: &x [*x]",
        "\u{0}",
        "metadata: [",
    ] {
        let read = unpack(&[("G/a", b"1"), (".metadata.yml", wrong.as_bytes())]);
        assert!(matches!(read, Err(ArchiveError::Metadata(_))), "{wrong:?} {read:?}");
    }
}

#[test]
fn what_is_no_archive_and_what_is_too_much() {
    assert_eq!(read(b"no zip", &mut |_| true).unwrap(), Archive::default());
    assert!(matches!(unpack(&[("G/a", b"\xff")]), Err(ArchiveError::Unreadable(_))));
    let bomb = packed(&[("G/a", &vec![b'a'; MAX_ENTRY_BYTES + 1])]);
    assert!(matches!(read(&bomb, &mut |_| true), Err(ArchiveError::TooLarge(_))));
    let mut room = 100;
    let mut admit = |bytes| {
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits
    };
    let two = packed(&[("G/a", &[b'a'; 60]), ("G/b", &[b'a'; 60])]);
    assert!(matches!(read(&two, &mut admit), Err(ArchiveError::TooLarge(_))));
}

#[test]
fn what_is_written_is_as_the_reference_writes_it() {
    let item = |group: &str, data_id: &str, kind: &str| Item {
        group: group.to_owned(),
        data_id: data_id.to_owned(),
        content: "内容".into(),
        kind: kind.to_owned(),
        ..Item::default()
    };
    let second = Item {
        app: Some("app1".to_owned()),
        tags: Some("t1,t2".to_owned()),
        description: "some: desc # x".to_owned(),
        ..item("G2", "测试.properties", "properties")
    };
    let configs = [item("DEFAULT_GROUP", "app.yaml", "yaml"), second];
    let write = |items: &[Item], format| super::write(items, format, DateTime::default());
    let meta = |format, name: &str| {
        let bytes = write(&configs, format).unwrap();
        // Local header: version 20, flags 0x0808 but for what a name of ASCII does not need, deflate.
        assert_eq!(bytes[..4], *b"PK\x03\x04");
        assert_eq!((bytes[4], bytes[6] & 8, bytes[8]), (20, 8, 8));
        let mut zip = ZipArchive::new(Cursor::new(bytes.as_slice())).unwrap();
        let last = zip.len() - 1;
        let (found, text) = entry(&mut zip, last, &mut |_| true).unwrap().unwrap();
        assert_eq!(found, name);
        text
    };
    assert_eq!(
        meta(Format::New { with_tags: true }, METADATA),
        "metadata:\n- appName: ''\n  dataId: app.yaml\n  group: DEFAULT_GROUP\n  type: yaml\n\
         - appName: app1\n  configTags: t1,t2\n  dataId: 测试.properties\n  desc: 'some: desc # x'\n  \
         group: G2\n  type: properties\n"
    );
    assert_eq!(meta(Format::Old, OLD_METADATA), "G2.测试~properties.app=app1\r\n");
    let empty = write(&[], Format::New { with_tags: false }).unwrap();
    assert!(read(&empty, &mut |_| true).is_err());
    assert_eq!(read(&write(&[], Format::Old).unwrap(), &mut |_| true).unwrap(), Archive::default());
    let twice = [configs[0].clone(), configs[0].clone()];
    assert!(matches!(write(&twice, Format::Old), Err(ArchiveError::Twice(_))));
}

#[test]
fn scalars_are_quoted_where_they_must_be() {
    for (text, want) in [
        ("plain", "plain"),
        ("10.0.0.1", "10.0.0.1"),
        ("a:b#c", "a:b#c"),
        ("-x", "-x"),
        ("", "''"),
        ("null", "'null'"),
        ("Yes", "'Yes'"),
        ("12", "'12'"),
        ("0x1f", "'0x1f'"),
        ("1_000", "'1_000'"),
        ("1e3", "'1e3'"),
        ("12:30", "'12:30'"),
        ("2020-01-02", "'2020-01-02'"),
        ("it's: x", "'it''s: x'"),
        ("- x", "'- x'"),
        ("[a", "'[a'"),
        ("two\nlines", "|-\n    two\n    lines"),
        ("tab\there", "\"tab\\there\""),
        ("测试", "测试"),
    ] {
        assert_eq!(scalar::written(text), want);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_as_it_was_written(text in "[ -~\n\t:#'测-]{0,20}") {
        let yaml = format!("metadata:\n- x: {}\n", scalar::written(&text));
        type Rows = BTreeMap<String, Vec<BTreeMap<String, String>>>;
        let read: Rows = serde_saphyr::from_str(&yaml).unwrap();
        prop_assert_eq!(&read["metadata"][0]["x"], &text, "{}", yaml);
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200_usize) {
        fuzz(&bytes);
        let whole = packed(&[("G/a", b"content"), (METADATA, &bytes)]);
        drop(read(&whole, &mut |_| true));
        bytes = whole;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x55;
        }
        drop(read(&bytes, &mut |_| true));
    }
}
