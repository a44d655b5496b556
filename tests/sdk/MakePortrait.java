import idadapter.client.ApiClient;
import idadapter.client.ApiException;
import idadapter.client.api.AccountApi;
import idadapter.client.api.FacesApi;
import idadapter.client.api.GenerationsApi;
import idadapter.client.model.FaceReport;
import idadapter.client.model.FaceRequest;
import idadapter.client.model.Generation;
import idadapter.client.model.GenerationRequest;
import idadapter.client.model.GenerationState;
import idadapter.client.model.OutputFormat;
import idadapter.client.model.PriceRequest;
import idadapter.client.model.Problem;
import java.io.File;
import java.net.http.HttpClient;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.UUID;

/**
 * Calls the service with the generated client: PHOTO PORTRAIT, with IDADAPTER_URL and IDADAPTER_TOKEN. Writes the portrait,
 * and a line for each thing it found to be so; ends with an exception at the first that is not.
 */
public final class MakePortrait {
  public static void main(String[] args) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri(System.getenv("IDADAPTER_URL"));
    // over plain http Java asks for an upgrade to HTTP/2 first, which the service refuses
    client.setHttpClientBuilder(HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1));
    String token = System.getenv("IDADAPTER_TOKEN");
    client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
    String photo = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(args[0])));

    FaceReport report = new FacesApi(client).checkFace(new FaceRequest().image(photo));
    expect(report.getUsable() && report.getFaces().size() == 1, "one usable face");
    expect(report.getFaces().get(0).getLandmarks().get(4).size() == 2, "five landmarks of x and y");

    long price = new AccountApi(client).priceGeneration(new PriceRequest().numImages(1)).getPrice();
    long before = new AccountApi(client).getAccount().getAvailable();

    GenerationsApi generations = new GenerationsApi(client);
    GenerationRequest wish = new GenerationRequest()
        .referenceImages(List.of(photo))
        .prompt("a smile")
        .classNoun("woman")
        .seed(7L);
    String key = UUID.randomUUID().toString();
    Generation made = generations.createGeneration(wish, key, null);
    expect(made.getStatus() == Generation.StatusEnum.SUCCEEDED, "succeeded");
    expect(made.getImages().get(0).getSeed() == 7, "the seed that was asked for");
    expect(made.getTimings().getTotal().signum() > 0, "timings");
    expect(generations.createGeneration(wish, key, null).getId().equals(made.getId()), "the same key, the same generation");
    expect(new AccountApi(client).getAccount().getAvailable() == before - price, "charged once");

    GenerationState state = generations.getGeneration(made.getId());
    expect(state.getActualInstance() instanceof Generation, "its state is that of a finished generation");
    File image = generations.getGenerationImage(made.getId(), "0", null, null, null);
    byte[] portrait = Files.readAllBytes(image.toPath());
    Files.write(Path.of(args[1]), portrait);

    try {
      generations.createGeneration(wish.prompt(" "), null, null);
      throw new AssertionError("an empty prompt was taken");
    } catch (ApiException refusal) {
      Problem problem = client.getObjectMapper().readValue(refusal.getResponseBody(), Problem.class);
      expect(refusal.getCode() == 422, "refused");
      expect(problem.getCode().equals("prompt_empty"), "with a problem that says why");
      String newer = refusal.getResponseBody().replace("prompt_empty", "moon_too_full");
      problem = client.getObjectMapper().readValue(newer, Problem.class);
      expect(problem.getCode().equals("moon_too_full"), "by a code that may be newer than the client");
    }
  }

  private static void expect(boolean so, String what) {
    if (!so) throw new AssertionError("not so: " + what);
    System.out.println(what);
  }
}
