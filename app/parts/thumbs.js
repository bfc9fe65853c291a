import { rootPath } from './page.js';

export function mount({ element, props, watch, trigger }) {
  const draw = () => {
    const buttons = (props.value || []).map((item, index) => {
      const button = document.createElement('button');
      const picture = new Image();
      const caption = document.createElement('span');
      button.type = 'button';
      picture.loading = 'lazy';
      picture.src = `${rootPath(location.href, window.gradio_config)}/thumbs/${item.picture}`;
      picture.alt = '';
      caption.textContent = item.caption;
      button.append(picture, caption);
      button.addEventListener('click', () => trigger('select', {index}));
      return button;
    });
    element.querySelector('.thumbs').replaceChildren(...buttons);
  };
  draw();
  watch('value', draw);
}
