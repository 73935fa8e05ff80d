// The bundler turns imported style sheets into dist/app.css.
declare module "*.css";
