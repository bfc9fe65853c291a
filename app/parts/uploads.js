// What browsers know of an upload before the studio has looked at it. They tell a file's type by
// the end of its name and know few types, and Gradio refuses what is not called a picture or a
// clip. So every file is called what its upload takes: the studio reads the content and refuses
// it with a sentence of its own.

// Files that are offered beside those of known types.
const ALSO = {
  image: '.heic,.heif,.hif,.avif,.tif,.tiff,.ppm',
  video: '.mov,.mkv,.avi,.mpg,.mpeg,.ts,.mts,.m2ts,.dv,.mxf,.ogv,.wmv,.flv,.gif,.webp,.apng,.avif',
};

// 'image' or 'video', by the list of what an upload takes; null for other uploads.
export const kindOf = (accept) => /^(image|video)\//.exec(accept ?? '')?.[1] ?? null;

// The file as one of that kind.
export const typed = (file, kind) => (file.type.startsWith(`${kind}/`) ? file
  : new File([file], file.name, { type: `${kind}/unknown`, lastModified: file.lastModified }));

const transferOf = (files, kind) => {
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(typed(file, kind));
  return transfer;
};

const inputOf = (target) => (
  (target.closest('.block') ?? target).querySelector('input[type="file"]'));

const kindOfInput = (target) => (target.type === 'file' ? kindOf(target.accept) : null);

// All before Gradio's own listeners.
export const uploads = () => {
  const before = (name, answer) => document.addEventListener(name, answer, true);
  before('click', ({ target }) => {
    const kind = kindOfInput(target);
    if (kind && !target.accept.includes(ALSO[kind])) target.accept += `,${ALSO[kind]}`;
  });
  before('change', ({ target }) => {
    const kind = kindOfInput(target);
    if (kind) target.files = transferOf(target.files, kind).files;
  });
  before('drop', (event) => {
    const kind = kindOf(inputOf(event.target)?.accept), files = event.dataTransfer?.files;
    if (!kind || !files?.length) return;
    Object.defineProperty(event, 'dataTransfer', { value: transferOf(files, kind) });
  });
  // Gradio would say that the clip cannot be played, as if it were of no use.
  before('error', (event) => {
    if (firstFrameOf(event.target.closest?.('.block')?.id)) event.stopPropagation();
  });
};

const firstFrameOf = (uploadId) => uploadId && document.getElementById(`${uploadId}-first`);

// What is seen of an upload: its picture or clip, or the first frame of a clip that the browser
// cannot play.
export const seenOf = (upload, media) => {
  const first = firstFrameOf(upload.id), isPlayed = !media?.error;
  first?.classList.toggle('needed', !isPlayed);
  upload.classList.toggle('unplayed', !isPlayed);
  if (isPlayed) return media;
  const frame = first?.querySelector('img') ?? null;
  if (frame && media.poster !== frame.src) media.poster = frame.src;
  return frame;
};
