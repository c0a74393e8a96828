//! Sizes and thumbnails of pictures, found once, when a file was received.
//!
//! A picture is whatever its uploader says it is: any bytes. Sizes are read from headers. Thumbnails are decoded in
//! bounded memory, one at a time, off the runtime's threads. A picture that cannot be decoded within the bounds is a
//! file like any other, without a thumbnail; the upload does not fail.
//!
//! Not here: where thumbnails are served (`download`), and how their bytes are counted (the file's record).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chelseru_domain::chat::{Picture, Thumbnail};
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use tokio::sync::Semaphore;

/// After a file's name: its thumbnail.
pub(super) const SUFFIX: &str = ".thumbnail";
/// The type of every thumbnail.
pub(crate) const TYPE: &str = "image/jpeg";
/// Largest width and height of a thumbnail, in pixels. A picture that fits in it needs none.
const SIDE: u32 = 320;
/// Quality of a thumbnail, of 100.
const QUALITY: u8 = 80;
/// Bytes of a picture that is decoded; JPEG decoders hold all of them.
const SOURCE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Largest width and height of a picture that is decoded, in pixels.
const SOURCE_SIDE_MAX: u32 = 20_000;
/// Scans of a JPEG that is decoded. Cameras write one and progressive encoders about ten; each is a pass over all
/// pixels, and a hundred thousand of them fit in a file.
const SCANS_MAX: usize = 64;
/// Pictures that wait for a decoder. One more gets no thumbnail.
const WAITING_MAX: usize = 64;

/// Measures pictures and makes their thumbnails.
pub(super) struct Pictures {
    places: Arc<Semaphore>,
    decoder: Arc<Semaphore>,
}

impl Default for Pictures {
    fn default() -> Self {
        Pictures { places: Arc::new(Semaphore::new(WAITING_MAX)), decoder: Arc::new(Semaphore::new(1)) }
    }
}

impl Pictures {
    /// The picture in a file of this type. Writes its thumbnail beside it, if one is due and its pixels fit into
    /// `memory_bytes`.
    pub(super) async fn of(&self, path: &Path, mime: &'static str, memory_bytes: u64) -> Option<Picture> {
        if !mime.starts_with("image/") {
            return None;
        }
        let Some(format) = decoded(mime) else {
            let path = path.to_owned();
            return blocking(move || measure(File::open(path).ok()?)).await;
        };
        let _place = self.places.clone().try_acquire_owned().ok();
        let turn = match &_place {
            Some(_) => self.decoder.clone().acquire_owned().await.ok(),
            None => None,
        };
        let memory_bytes = if turn.is_some() { memory_bytes } else { 0 };
        let path = path.to_owned();
        blocking(move || {
            // Held by the thread: a caller that goes away does not let a second decoder start.
            let _turn = turn;
            examine(&path, format, memory_bytes)
        })
        .await
    }
}

/// Size of a picture by its header.
#[must_use]
pub fn measure(file: impl Read + Seek) -> Option<Picture> {
    let size = imagesize::reader_size(BufReader::new(file)).ok()?;
    let side = |pixels: usize| u32::try_from(pixels).ok().filter(|pixels| *pixels > 0);
    Some(Picture { width: side(size.width)?, height: side(size.height)?, thumbnail: None })
}

/// Whether a file of this type is a picture that was decoded. Without memory for decoding, its header must tell its
/// size; a picture that needs no thumbnail was decoded as far as its header.
pub(super) fn is_decoded(mime: &str, picture: Option<Picture>, memory_bytes: u64) -> bool {
    let fits = |picture: Picture| {
        memory_bytes == 0 || picture.thumbnail.is_some() || picture.width.max(picture.height) <= SIDE
    };
    decoded(mime).is_some() && picture.is_some_and(fits)
}

/// Where the thumbnail of a file is.
pub(super) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// The same for a path in the place of files.
pub(super) fn beside_path(path: &str) -> String {
    format!("{path}{SUFFIX}")
}

/// Runs on a thread for blocking work. `None` also when a decoder panics.
async fn blocking(work: impl FnOnce() -> Option<Picture> + Send + 'static) -> Option<Picture> {
    tokio::task::spawn_blocking(work).await.ok().flatten()
}

fn decoded(mime: &str) -> Option<ImageFormat> {
    match mime {
        "image/jpeg" => Some(ImageFormat::Jpeg),
        "image/png" => Some(ImageFormat::Png),
        "image/webp" => Some(ImageFormat::WebP),
        _ => None,
    }
}

fn examine(path: &Path, format: ImageFormat, memory_bytes: u64) -> Option<Picture> {
    let bytes = std::fs::metadata(path).ok()?.len();
    if bytes > SOURCE_BYTES_MAX {
        return measure(File::open(path).ok()?);
    }
    let mut decoder = decoder(path, format, memory_bytes)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = turned(decoder.dimensions(), orientation);
    let mut picture = Picture { width, height, thumbnail: None };
    let fits = width.max(height) <= SOURCE_SIDE_MAX && decoder.total_bytes() <= memory_bytes;
    if width.max(height) > SIDE && fits && scans(path, format).is_ok_and(|scans| scans <= SCANS_MAX) {
        picture.thumbnail = thumbnail(decoder, orientation, &beside(path));
    }
    Some(picture)
}

fn decoder(path: &Path, format: ImageFormat, memory_bytes: u64) -> Option<impl ImageDecoder> {
    let mut reader = ImageReader::with_format(BufReader::new(File::open(path).ok()?), format);
    let mut limits = Limits::default();
    // What a decoder needs besides the pixels.
    limits.max_alloc = Some(memory_bytes.saturating_add(SOURCE_BYTES_MAX));
    reader.limits(limits);
    reader.into_decoder().ok()
}

/// Width and height as shown.
fn turned((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

/// Scans of a JPEG. The marker occurs in no other place of its data, because data bytes of 255 are followed by 0.
fn scans(path: &Path, format: ImageFormat) -> io::Result<usize> {
    if format != ImageFormat::Jpeg {
        return Ok(1);
    }
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let (mut scans, mut after_255) = (0, false);
    loop {
        let piece = file.fill_buf()?;
        if piece.is_empty() {
            return Ok(scans);
        }
        for byte in piece {
            scans += usize::from(after_255 && *byte == 0xda);
            after_255 = *byte == 0xff;
        }
        let count = piece.len();
        file.consume(count);
    }
}

/// Writes a thumbnail to `path`. Nothing of the picture's metadata, such as a place, is in it.
fn thumbnail(decoder: impl ImageDecoder, orientation: Orientation, path: &Path) -> Option<Thumbnail> {
    let mut small = DynamicImage::from_decoder(decoder).ok()?.thumbnail(SIDE, SIDE);
    small.apply_orientation(orientation);
    let small = on_white(&small);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode_image(&small).ok()?;
    let written = File::create(path).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        tracing::warn!(%error, "a thumbnail could not be written");
        let _ = std::fs::remove_file(path);
        return None;
    }
    Some(Thumbnail { bytes: bytes.len() as u64, width: small.width(), height: small.height() })
}

/// JPEG has no transparency.
fn on_white(picture: &DynamicImage) -> RgbImage {
    let picture = picture.to_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        let over = |color: u32| u8::try_from((color * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX);
        Rgb([over(red), over(green), over(blue)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 64 * 1024 * 1024;

    /// A picture of one color.
    fn plain(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        let picture = RgbImage::from_pixel(width, height, Rgb([200, 30, 30]));
        DynamicImage::from(picture).write_to(&mut bytes, format).expect("encoded");
        bytes.into_inner()
    }

    /// The picture of these bytes, and the bytes of its thumbnail.
    async fn look(mime: &'static str, bytes: &[u8], memory: u64) -> (Option<Picture>, Option<Vec<u8>>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).expect("written");
        let picture = Pictures::default().of(&path, mime, memory).await;
        (picture, std::fs::read(beside(&path)).ok())
    }

    #[tokio::test]
    async fn a_thumbnail_has_the_form_of_its_picture() {
        for (mime, format) in [
            ("image/jpeg", ImageFormat::Jpeg),
            ("image/png", ImageFormat::Png),
            ("image/webp", ImageFormat::WebP),
        ] {
            let (picture, small) = look(mime, &plain(640, 321, format), MEMORY).await;
            let (picture, small) = (picture.expect("a picture"), small.expect("a thumbnail"));
            assert_eq!((picture.width, picture.height), (640, 321), "{mime}");
            let told = picture.thumbnail.expect("told");
            assert_eq!((told.width, told.bytes), (320, small.len() as u64), "{mime}");
            let size = imagesize::blob_size(&small).expect("a picture");
            assert_eq!((size.width, size.height), (told.width as usize, told.height as usize), "{mime}");
        }
    }

    #[tokio::test]
    async fn a_picture_that_fits_or_is_of_another_type_has_no_thumbnail() {
        let (picture, small) = look("image/png", &plain(320, 320, ImageFormat::Png), MEMORY).await;
        assert_eq!(picture, Some(Picture { width: 320, height: 320, thumbnail: None }));
        assert_eq!(small, None);
        let (picture, _) = look("image/png", &plain(321, 1, ImageFormat::Png), MEMORY).await;
        assert!(picture.expect("a picture").thumbnail.is_some());
        let gif = b"GIF89a\x40\x01\x02\x00\x00\x00\x00;";
        assert_eq!(look("image/gif", gif, MEMORY).await.0.map(|gif| (gif.width, gif.height)), Some((320, 2)));
        assert_eq!(look("text/plain", b"hello", MEMORY).await, (None, None));
    }

    #[tokio::test]
    async fn what_would_take_too_much_is_not_decoded() {
        let png = plain(1000, 1000, ImageFormat::Png);
        let thumbnail =
            async |memory| look("image/png", &png, memory).await.0.and_then(|found| found.thumbnail);
        assert!(thumbnail(3_000_000).await.is_some());
        assert!(thumbnail(2_999_999).await.is_none());
        assert!(thumbnail(0).await.is_none());
        // A few bytes that claim to be 20 gigapixels.
        let mut bomb = png.clone();
        bomb[16..24].copy_from_slice(&[0, 2, 0, 0, 0, 2, 0, 0]);
        let (picture, small) = look("image/png", &bomb, MEMORY).await;
        assert!(picture.is_none_or(|picture| picture.thumbnail.is_none()) && small.is_none());
    }

    #[tokio::test]
    async fn broken_pictures_are_files_without_a_thumbnail() {
        let jpeg = plain(640, 640, ImageFormat::Jpeg);
        for mime in ["image/jpeg", "image/png", "image/webp"] {
            for bytes in [&jpeg[..20], b"", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\xffWEBPVP8 "] {
                let (picture, small) = look(mime, bytes, MEMORY).await;
                assert!(picture.is_none_or(|picture| picture.thumbnail.is_none()), "{mime} {bytes:?}");
                assert_eq!(small, None, "{mime} {bytes:?}");
            }
        }
        let truncated = plain(640, 640, ImageFormat::Png);
        let (picture, small) = look("image/png", &truncated[..truncated.len() / 2], MEMORY).await;
        assert_eq!(picture, Some(Picture { width: 640, height: 640, thumbnail: None }));
        assert_eq!(small, None);
    }

    #[tokio::test]
    async fn a_jpeg_with_endless_scans_is_not_decoded() {
        let mut jpeg = plain(640, 640, ImageFormat::Jpeg);
        let thumbnail = async |jpeg: &[u8]| {
            let (picture, _) = look("image/jpeg", jpeg, MEMORY).await;
            picture.expect("a picture").thumbnail
        };
        let end = jpeg.split_off(jpeg.len() - 2);
        jpeg.extend([0xff, 0xda].repeat(SCANS_MAX));
        jpeg.extend(end);
        assert!(thumbnail(&jpeg).await.is_none());
    }

    #[test]
    fn a_turned_picture_changes_its_sides() {
        assert_eq!(turned((640, 480), Orientation::Rotate90), (480, 640));
        assert_eq!(turned((640, 480), Orientation::Rotate180), (640, 480));
    }
}
